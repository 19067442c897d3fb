"""Dataclass messages between a daemon and a child process, as plain maps for the pipe and back (no torch)."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Protocol, get_args, get_origin, get_type_hints

from common.errors import MessageError

__all__ = ["PipeMessage", "message_from_map", "message_to_map"]


class PipeMessage(Protocol):
    """A frozen dataclass whose ``kind`` names it."""

    kind: ClassVar[str]
    __dataclass_fields__: ClassVar[dict[str, Any]]


def message_to_map(message: PipeMessage) -> dict[str, Any]:
    """The message as a plain map with its ``type``, ready for the pipe."""
    return {"type": message.kind, **dataclasses.asdict(message)}


def message_from_map(value: Mapping[str, Any], known: Mapping[str, type[Any]], child: str) -> Any:
    """The message of a map from the pipe.

    Args:
        value: The map.
        known: Message class by its ``kind``.
        child: What the child process is, for sentences.

    Raises:
        MessageError: Of unknown type, or a field is missing, unknown or of the wrong type.
    """
    kind = value.get("type")
    cls = known.get(kind) if isinstance(kind, str) else None
    if cls is None:
        raise MessageError(f"a {child} message has the unknown type {kind!r}; known: {', '.join(known)}")
    hints = get_type_hints(cls)
    arguments = {key: item for key, item in value.items() if key != "type"}
    names = {entry.name for entry in dataclasses.fields(cls)}
    for key, item in arguments.items():
        if key not in names:
            raise MessageError(f"a {child} message {kind!r} has the unknown field {key!r}")
        if not _fits(item, hints[key]):
            raise MessageError(f"a {child} message {kind!r} has a {type(item).__name__} in {key!r}")
    try:
        return cls(**arguments)
    except TypeError as error:
        raise MessageError(f"a {child} message {kind!r} lacks a field: {error}") from error


def _fits(item: Any, hint: Any) -> bool:
    """Whether ``item`` may stand where ``hint`` is annotated."""
    origin = get_origin(hint)
    if origin is Literal:
        return item in get_args(hint)
    if origin in (types.UnionType, None) and get_args(hint):
        return any(_fits(item, part) for part in get_args(hint))
    if origin is not None:
        return isinstance(item, origin)
    if hint is float:
        return isinstance(item, int | float) and not isinstance(item, bool)
    if hint is int:
        return isinstance(item, int) and not isinstance(item, bool)
    return isinstance(item, hint)
