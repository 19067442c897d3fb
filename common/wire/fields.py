"""Types of message fields, and the limits and codes that both ends keep to."""

from __future__ import annotations

import enum
from typing import Annotated, Literal, TypeAlias

from pydantic import Field

__all__ = [
    "ANY_DEVICE",
    "FEATURES",
    "MAX_BOXES",
    "MAX_META_BYTES",
    "MAX_NAME",
    "MAX_NUMBERS",
    "MAX_PAYLOAD_BYTES",
    "PROTOCOL_VERSION",
    "U64",
    "CodeName",
    "DeviceKey",
    "Digest",
    "ErrorCode",
    "Features",
    "KindName",
    "Position",
    "Priority",
    "Rate",
    "Sentence",
    "Subscription",
    "WireBox",
]

PROTOCOL_VERSION = 2
"""Version of these messages; neighbours (one older, one newer) are understood.

Version 2 added features, more_kinds, priority, retry_after_s and the fog's rates, all with defaults, and the
messages Correct and Corrected."""

FEATURES: tuple[str, ...] = ("priority", "retry_after", "corrections")
"""What this node understands beyond version 1, told in Hello and Welcome: a message *type* that not every
neighbour knows is sent only to a peer that named its feature. New *fields* need none: they are ignored."""

MAX_BOXES = 1_000
"""Boxes of one frame."""

MAX_NAME = 255
"""Characters of a frame's name."""

MAX_NUMBERS = 1_000
"""Frame numbers of one Accepted."""

MAX_PAYLOAD_BYTES = 64 << 20
"""Bytes of a payload frame (64 MiB): the ceiling of the setting ``max_message_bytes``."""

MAX_META_BYTES = 200_000
"""Bytes of a record's meta as JSON: 1,000 boxes with long names fit."""

ANY_DEVICE = "*"
"""In a subscription: every device that the edge may subscribe to."""

U64 = Annotated[int, Field(ge=0, lt=2**64)]
Position = Annotated[int, Field(ge=0, lt=2**63)]
Digest = Annotated[bytes, Field(min_length=32, max_length=32)]
DeviceKey = Annotated[str, Field(pattern=r"\A[0-9a-zA-Z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}\z")]
Subscription = Annotated[tuple[DeviceKey | Literal["*"], ...], Field(max_length=1_000)]
Sentence = Annotated[str, Field(max_length=2_000)]
Rate = Annotated[float, Field(ge=0, le=1e15)]
Priority = Annotated[int, Field(ge=0, le=9)]
Features = Annotated[tuple[Annotated[str, Field(min_length=1, max_length=40)], ...], Field(max_length=32)]
"""Names, of which those unknown here are passed over."""
KindName = Literal["packet", "tombstone", "shared_part", "weights", "labels", "gap"]
WireBox: TypeAlias = tuple[float, float, float, float, Annotated[str, Field(max_length=100)]]
"""x0, y0, x1, y1 in pixels of the image (finite; any order until ``to_frame``), class name."""


class ErrorCode(enum.StrEnum):
    """Why something was refused; the sentence beside it is for a person."""

    BAD_MESSAGE = "bad_message"
    BAD_VERSION = "bad_version"
    NOT_ALLOWED = "not_allowed"
    BAD_IMAGE = "bad_image"
    BAD_BOX = "bad_box"
    UNKNOWN_CLASS = "unknown_class"
    CONFLICT = "conflict"
    FULL = "full"
    NOT_FOUND = "not_found"
    NO_SESSION = "no_session"
    STOPPING = "stopping"
    TOO_FAST = "too_fast"
    INTERNAL = "internal"


CodeName = Annotated[str, Field(min_length=1, max_length=40)]
"""An :class:`ErrorCode` value; a string on the wire, so that a newer peer's code is readable."""
