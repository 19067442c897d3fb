"""The commands keygen and status, which both nodes have."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.cli import add_json, print_json
from common.errors import ResidualInrError, UsageError
from common.node.status_table import Section, render

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

__all__ = ["add_config", "add_keygen", "add_status"]

StatusReader = Callable[[str], dict[str, Any]]
"""From the path of a configuration to the node's status."""

StatusView = Callable[[dict[str, Any]], Sequence[Section]]
"""From a status to what people are shown of it."""

WATCH_S = 1.0
"""Seconds between two looks of ``status --watch``: a node writes its status as often by default."""


def add_config(parser: argparse.ArgumentParser, example: str) -> None:
    """The option --config."""
    parser.add_argument(
        "--config", required=True, metavar="FILE", help=f"configuration of the node, such as {example}"
    )


def add_keygen(subparsers: argparse._SubParsersAction[Any]) -> None:
    """The command keygen."""
    parser = subparsers.add_parser("keygen", help="make the node's keys on this machine")
    parser.description = "Make the node's CURVE keys: public.key to be shown around, secret.key to stay here."
    parser.add_argument("folder", metavar="DIR", type=Path, help="folder for the two key files")
    add_json(parser)
    parser.set_defaults(command=_keygen)


def _keygen(arguments: argparse.Namespace) -> int:
    from common.wire import keys

    pair = keys.generate(arguments.folder)
    if arguments.json:
        print_json({"public_key": pair.public, "folder": str(arguments.folder)})
    else:
        sys.stdout.write(pair.public + "\n")
        sys.stderr.write(f"keys are in {arguments.folder}; the line above is the public key to show around\n")
    return 0


def add_status(
    subparsers: argparse._SubParsersAction[Any], example: str, read: StatusReader, view: StatusView
) -> None:
    """The command status.

    Args:
        subparsers: As :func:`common.cli.build_parser` gives them.
        example: Path of the shipped configuration.
        read: Gives the status.
        view: What people are shown of it; --json gives all of it.
    """
    parser = subparsers.add_parser("status", help="what the node on this machine is doing")
    parser.description = "Read the status file of the node with this configuration; exits 1 unless it runs."
    add_config(parser, example)
    parser.add_argument("--watch", action="store_true", help="show it again every second until Ctrl-C")
    add_json(parser)

    def command(arguments: argparse.Namespace) -> int:
        if arguments.watch and arguments.json:
            raise UsageError("--watch shows tables; leave out --json, or leave out --watch")
        if arguments.watch:
            return _watch(lambda: _drawn(read(arguments.config), view))
        status = read(arguments.config)
        if arguments.json:
            print_json(status)
        else:
            _console().print(_drawn(status, view))
        if status["alive"]:
            return 0
        raise ResidualInrError(f"the node of {arguments.config} is not running; this is how it stood last")

    parser.set_defaults(command=command)


def _console() -> Console:
    from rich.console import Console

    # Only a terminal has a width; where the text goes into a file or a pipe nothing is wrapped.
    return Console(highlight=False) if sys.stdout.isatty() else Console(highlight=False, width=10_000)


def _drawn(status: dict[str, Any], view: StatusView) -> RenderableType:
    """The status as people see it; figure by figure when it was written by another version."""
    try:
        # How a node was that has ended is no health.
        health = status.get("health") if status["alive"] else None
        return render(health or {}, view(status))
    except (KeyError, TypeError, AttributeError):
        from rich.text import Text

        return Text("\n".join(_lines(status, "")))


def _watch(draw: Callable[[], RenderableType]) -> int:
    from rich.live import Live

    with suppress(KeyboardInterrupt), Live(draw(), console=_console(), auto_refresh=False) as live:
        while True:
            time.sleep(WATCH_S)
            live.update(draw(), refresh=True)
    return 0


def _lines(value: dict[str, Any], indent: str) -> list[str]:
    """The status as indented lines, one figure a line."""
    lines = []
    for key, item in value.items():
        if isinstance(item, dict) and item:
            lines += [f"{indent}{key}:", *_lines(item, indent + "  ")]
        elif isinstance(item, list) and item and isinstance(item[0], dict):
            for number, entry in enumerate(item):
                lines += [f"{indent}{key} {number}:", *_lines(entry, indent + "  ")]
        elif isinstance(item, list) and item and isinstance(item[0], str):
            lines += [f"{indent}{key}:", *(f"{indent}  - {sentence}" for sentence in item)]
        else:
            text = "-" if item is None or item in ({}, []) else item
            if isinstance(text, float):
                text = f"{text:.0f}" if abs(text) >= 1e6 else f"{text:.6g}"
            lines.append(f"{indent}{key}: {text}")
    return lines
