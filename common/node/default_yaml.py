"""The YAML of a settings model with every default and its description: how configs/*.yaml of nodes are made.

python -m common.node.default_yaml fog_node.settings:FogSettings > configs/fog.yaml
"""

from __future__ import annotations

import importlib
import sys
import textwrap
from collections.abc import Iterator
from typing import Any

import yaml

from common.config import Settings
from common.errors import UsageError

__all__ = ["default_yaml"]

LINE = 110
"""Longest line written."""


def default_yaml(model: type[Settings]) -> str:
    """Every key of a settings model with its default, its description as a comment."""
    head = "\n".join(f"# {line}" for line in textwrap.wrap(" ".join((model.__doc__ or "").split()), LINE - 2))
    return head + "\n" + "\n".join(_lines(model(), 0)) + "\n"


def _lines(value: Settings, indent: int) -> Iterator[str]:
    pad = " " * indent
    for name, field in type(value).model_fields.items():
        item = getattr(value, name)
        text = (field.description or "").rstrip(".")
        if indent == 0:
            yield ""
        if isinstance(item, Settings):
            yield from _commented(f"{pad}{name}:", text, pad)
            yield from _lines(item, indent + 2)
        elif isinstance(item, tuple) and item and isinstance(item[0], Settings):
            yield from _commented(f"{pad}{name}:", text, pad)
            for entry in item:
                yield f"{pad}  - {_flow(entry.model_dump(mode='json'))}"
        else:
            yield from _commented(f"{pad}{name}: {_flow(item)}", text, pad)


def _commented(line: str, text: str, pad: str) -> Iterator[str]:
    """The line with its comment behind it, or above it when that is too long."""
    if len(line) + 4 + len(text) <= LINE:
        yield f"{line}  # {text}" if text else line
        return
    for part in textwrap.wrap(text, LINE - len(pad) - 2):
        yield f"{pad}# {part}"
    yield line


def _flow(value: Any) -> str:
    """A value on one line."""
    plain = list(value) if isinstance(value, tuple) else value
    text = yaml.safe_dump(plain, default_flow_style=True, sort_keys=False, width=10_000, allow_unicode=True)
    return text.strip().removesuffix("...").strip()


def _main(argv: list[str]) -> int:
    if len(argv) != 1 or argv[0].count(":") != 1:
        raise UsageError("usage: python -m common.node.default_yaml MODULE:MODEL")
    module, name = argv[0].split(":")
    sys.stdout.write(default_yaml(getattr(importlib.import_module(module), name)))
    return 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
