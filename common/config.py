"""Settings from YAML: every key known, typed and bounded; errors name the file and the line."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import pydantic
import yaml

from common.errors import ConfigError

__all__ = ["Settings", "load_settings", "parse_settings"]


class Settings(pydantic.BaseModel):
    """Base of every settings model: immutable, and unknown keys are refused."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


S = TypeVar("S", bound=Settings)


def load_settings(path: str | Path, model: type[S]) -> S:
    """Read a YAML file into ``model``.

    Raises:
        ConfigError: The file cannot be read, is no YAML, or holds an unknown key or a bad value.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot read the configuration {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"the configuration {path} is no UTF-8 text; save it as UTF-8") from error
    return parse_settings(text, model, name=path.name)


def parse_settings(text: str, model: type[S], *, name: str = "configuration") -> S:
    """Parse YAML text into ``model``; ``name`` stands for the file in error messages.

    Raises:
        ConfigError: As :func:`load_settings`.
    """
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        _refuse_duplicates(node, name)
        data = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = f" line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(f"{name}{line} is not valid YAML: {error.problem}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{name} is not valid YAML: {' '.join(str(error).split())}") from error
    data = {} if data is None else data
    if not isinstance(data, dict):
        raise ConfigError(f"{name} must hold keys and values, not a {type(data).__name__}")
    try:
        return model.model_validate(data)
    except pydantic.ValidationError as error:
        # A misspelt key also makes the right one missing: name the cause, not what follows from it.
        first = min(error.errors(), key=lambda complaint: complaint["type"] != "extra_forbidden")
        raise ConfigError(_sentence(first, model, node, name)) from error


def _sentence(error: Any, model: type[Settings], node: yaml.Node | None, name: str) -> str:
    """One sentence for pydantic's first complaint."""
    location: tuple[str | int, ...] = tuple(error["loc"])
    message = str(error["msg"]).removeprefix("Value error, ")
    if not location:
        return f"{name}: {message}"
    place = f"{name} line {_line(node, location)}"
    if error["type"] == "extra_forbidden":
        key = str(location[-1])
        known = list(_fields(model, location[:-1]))
        close = difflib.get_close_matches(key, known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"known keys: {', '.join(sorted(known))}"
        return f"unknown key {key!r} in {place}; {hint}"
    dotted = ".".join(str(part) for part in location)
    if error["type"] == "missing":
        return f"{name} needs the key {dotted!r}; add it"
    return f"bad value for {dotted!r} in {place}: {message} (got {reprlib.repr(error['input'])})"


def _refuse_duplicates(node: yaml.Node | None, name: str) -> None:
    """YAML keeps the last of two equal keys silently; one of them is a mistake."""
    pending = [node]
    visited: set[int] = set()
    while pending:
        current = pending.pop()
        # An alias leads to a node already seen, even to a parent of itself.
        if current is None or id(current) in visited:
            continue
        visited.add(id(current))
        if isinstance(current, yaml.SequenceNode):
            pending += current.value
        elif isinstance(current, yaml.MappingNode):
            lines: dict[str, int] = {}
            for key, value in current.value:
                line = key.start_mark.line + 1
                if isinstance(key, yaml.ScalarNode) and key.value in lines and key.value != "<<":
                    raise ConfigError(
                        f"the key {key.value!r} stands in {name} on lines {lines[key.value]} and {line}; "
                        "remove one"
                    )
                if isinstance(key, yaml.ScalarNode):
                    lines[key.value] = line
                pending.append(value)


def _line(node: yaml.Node | None, location: tuple[str | int, ...]) -> int:
    """1-based line of the key at ``location``, or of its closest parent."""
    line = 1
    for part in location:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if key.value == str(part):
                    line, node = key.start_mark.line + 1, value
                    break
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
    return line


def _fields(model: type[Settings], location: tuple[str | int, ...]) -> Iterator[str]:
    """Names of the fields of the model at ``location`` inside ``model``."""
    current: Any = model
    for part in location:
        if _is_settings(current) and part in current.model_fields:
            current = current.model_fields[part].annotation
        current = _settings_within(current) or current
    if _is_settings(current):
        yield from current.model_fields


def _settings_within(annotation: Any) -> Any:
    """The model inside a list, a mapping or an optional value, nested as they may be; else None."""
    if _is_settings(annotation):
        return annotation
    return next(filter(None, map(_settings_within, getattr(annotation, "__args__", ()))), None)


def _is_settings(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, Settings)
