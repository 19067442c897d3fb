"""Messages to ZeroMQ frames and back: ``[header]`` or ``[header, payload]``.

The header is a msgpack map: ``v`` protocol version, ``t`` message type, then the fields. Decoding
checks the size before unpacking, then nesting, duplicate keys, NaN and extension types, then the
version, the type and every field. It raises nothing but :class:`common.errors.WireError`.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
import typing
from collections.abc import Iterator, Sequence
from typing import Any

import msgpack
import pydantic

from common.errors import MessageError, MessageVersionError, UnknownMessageError
from common.wire.messages import MAX_PAYLOAD_BYTES, PROTOCOL_VERSION, Message

__all__ = ["MAX_HEADER_BYTES", "decode", "encode"]

MAX_HEADER_BYTES = 400_000
"""Bytes of a header: the largest legal one, a record's meta of non-ASCII text, is half of it."""

MAX_DEPTH = 4
"""Nesting of maps and arrays: header > list of boxes > box, and one to spare for a newer version."""

MAX_ITEMS = 1_024
"""Elements of one map or array: above the longest legal list. msgpack reserves what an array promises,
down to its own depth limit of 1,024, so this and ``MAX_HEADER_BYTES`` keep what a hostile header
costs below 32 MiB."""

MAX_MAPS = 64
"""Maps of one header: a legal one has a single map; a newer version may have some."""

_TYPES: dict[str, type[Any]] = {kind.__name__: kind for kind in typing.get_args(Message)}


def encode(message: Message, *, version: int = PROTOCOL_VERSION) -> list[bytes]:
    """The ZeroMQ frames of a message.

    Args:
        message: Any message.
        version: Protocol version to write.

    Raises:
        MessageError: A field breaks its schema, so that the peer would refuse it.
    """
    kind = type(message)
    fields = {f.name: getattr(message, f.name) for f in dataclasses.fields(message)}
    _checked(kind, fields)
    payload = fields.pop("payload", None)
    header = msgpack.packb({"v": version, "t": kind.__name__, **fields})
    if len(header) > MAX_HEADER_BYTES:
        raise MessageError(
            f"the header of a {kind.__name__} has {len(header)} bytes, above {MAX_HEADER_BYTES}"
        )
    return [header] if payload is None else [header, payload]


def decode(frames: Sequence[bytes], *, version: int = PROTOCOL_VERSION) -> Message:
    """The message in these ZeroMQ frames (without routing id).

    Unknown fields are ignored: a newer neighbour may have added them.

    Args:
        frames: As received.
        version: Protocol version spoken here; one older and one newer are understood.

    Raises:
        MessageError: Malformed, oversized or with a field out of its schema.
        UnknownMessageError: Of an unknown type.
        MessageVersionError: Neither this version nor a neighbour.
    """
    if not 1 <= len(frames) <= 2:
        raise MessageError(f"a message has 1 or 2 frames, not {len(frames)}")
    if len(frames[0]) > MAX_HEADER_BYTES:
        raise MessageError(f"a header of {len(frames[0])} bytes is above {MAX_HEADER_BYTES}")
    if len(frames) == 2 and len(frames[1]) > MAX_PAYLOAD_BYTES:
        raise MessageError(f"a payload of {len(frames[1])} bytes is above {MAX_PAYLOAD_BYTES}")
    fields = _unpack(frames[0])
    theirs, name = fields.pop("v", None), fields.pop("t", None)
    if type(theirs) is not int or not 0 < theirs < 2**16:
        raise MessageError("a header without a protocol version")
    if abs(theirs - version) > 1:
        raise MessageVersionError(
            f"protocol version {theirs} is not understood here, which speaks version {version}; "
            f"update {'this node' if theirs > version else 'the peer'}"
        )
    kind = _TYPES.get(name) if isinstance(name, str) else None
    if kind is None:
        raise UnknownMessageError(f"unknown message type {str(name)[:40]!r}")
    if "payload" in fields:
        raise MessageError(f"a {name} with a payload inside its header")
    takes_payload = "payload" in {f.name for f in dataclasses.fields(kind)}
    if takes_payload != (len(frames) == 2):
        raise MessageError(f"a {name} {'without its' if takes_payload else 'with a'} payload frame")
    if takes_payload:
        fields["payload"] = bytes(frames[1])
    return typing.cast(Message, kind(**_checked(kind, fields)))


def _unpack(header: bytes) -> dict[str, Any]:
    """The header's map, bounded in depth, lengths and kinds of values."""
    try:
        value = msgpack.unpackb(
            header,
            use_list=False,
            strict_map_key=True,
            object_pairs_hook=functools.partial(_unique, counter=itertools.count()),
            ext_hook=_refuse_extension,
            max_array_len=MAX_ITEMS,
            max_map_len=MAX_ITEMS,
            max_ext_len=0,
        )
    except MessageError:
        raise
    except (ValueError, TypeError, msgpack.UnpackException, RecursionError, OverflowError) as error:
        raise MessageError(f"a header that is no msgpack map: {str(error)[:200]}") from error
    if not isinstance(value, dict):
        raise MessageError(f"a header must be a map, not a {type(value).__name__}")
    _check_values(value, MAX_DEPTH)
    return value


def _unique(pairs: Sequence[tuple[Any, Any]], counter: Iterator[int]) -> dict[str, Any]:
    if next(counter) >= MAX_MAPS:
        raise MessageError(f"a header with more than {MAX_MAPS} maps")
    table = dict(pairs)
    if len(table) != len(pairs):
        raise MessageError("a header with a duplicate key")
    if not all(type(key) is str for key in table):
        raise MessageError("a header with a key that is no text")
    return table


def _refuse_extension(code: int, data: bytes) -> Any:
    raise MessageError(f"a header with the extension type {code}")


def _check_values(value: Any, depth: int) -> None:
    """Refuse what no message holds, also in fields that are unknown here."""
    if isinstance(value, dict | tuple):
        if depth == 0:
            raise MessageError(f"a header nested deeper than {MAX_DEPTH}")
        for item in value.values() if isinstance(value, dict) else value:
            _check_values(item, depth - 1)
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise MessageError("a header with a number that is not finite")
    elif not isinstance(value, str | bytes | int | None):
        raise MessageError(f"a header with a value of type {type(value).__name__}")


def _schema(kind: type[Any]) -> type[pydantic.BaseModel]:
    """The annotations of a message class as a strict model."""
    hints = typing.get_type_hints(kind, include_extras=True)
    fields: dict[str, Any] = {
        f.name: (hints[f.name], ... if f.default is dataclasses.MISSING else f.default)
        for f in dataclasses.fields(kind)
    }
    config = pydantic.ConfigDict(strict=True, extra="ignore", allow_inf_nan=False)
    return pydantic.create_model(kind.__qualname__, __config__=config, **fields)


def _checked(kind: type[Any], fields: dict[str, Any]) -> dict[str, Any]:
    """The known fields, each within its schema."""
    try:
        return dict(_SCHEMAS[kind].model_validate(fields).__dict__)
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise MessageError(f"field {place!r} of a {kind.__name__}: {first['msg'][:200]}") from error


_SCHEMAS = {kind: _schema(kind) for kind in _TYPES.values()}
