"""Frames and records as table columns: JSON, signed 64-bit numbers and checksums."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from common.errors import BoxError, StoreCorruptError, StoreError
from common.frame import Box, Frame, FrameIdentity, content_digest
from common.store.records import Keyframe

__all__ = [
    "KEYFRAME_KEY",
    "SOURCE_KEY",
    "checksum",
    "columns_match",
    "fingerprint",
    "frame_facts",
    "frame_of",
    "identity_of",
    "json_text",
    "keyframe_facts",
    "keyframe_of",
    "marked",
    "signed",
    "source_facts",
    "source_frame",
    "unsigned",
    "verified",
]

SOURCE_KEY = "source"
"""Key of a record's meta under which the store describes a validation frame's original."""

KEYFRAME_KEY = "keyframe"
"""Key of a packet's meta that names the packet it refers to."""


def signed(value: int) -> int:
    """An unsigned 64-bit number as SQLite's signed one."""
    if not 0 <= value < 2**64:
        raise StoreError(f"{value} is no unsigned 64-bit number")
    return value - 2**64 if value >= 2**63 else value


def unsigned(value: int) -> int:
    """The inverse of :func:`signed`."""
    return value % 2**64


def checksum(*parts: object) -> bytes:
    """16 bytes over the columns of a row; the payload enters by its digest."""
    state = hashlib.blake2b(digest_size=16)
    for part in parts:
        data = part if isinstance(part, bytes) else str(part).encode("utf-8", "surrogateescape")
        state.update(len(data).to_bytes(8, "little") + data)
    return state.digest()


def columns_match(columns: Sequence[Any], check: object, kinds: Sequence[type]) -> bool:
    """Whether columns are of their types and match their checksum; damage may change either."""
    return all(map(isinstance, columns, kinds)) and checksum(*columns) == check


def json_text(meta: Mapping[str, Any]) -> str:
    """Meta as JSON.

    Raises:
        StoreError: It holds what JSON does not.
    """
    try:
        return json.dumps(dict(meta), allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError) as error:
        raise StoreError(f"a record's meta must hold JSON values only: {error}") from error


def frame_facts(frame: Frame) -> dict[str, Any]:
    """What a frame is beside its image and identity."""
    return {
        "name": frame.name,
        "width": frame.width,
        "height": frame.height,
        "labelled": frame.labelled,
        "validation": frame.validation,
        "boxes": [[float(b.x0), float(b.y0), float(b.x1), float(b.y1), b.name] for b in frame.boxes],
    }


def frame_of(facts: Mapping[str, Any], image: bytes, identity: FrameIdentity | None) -> Frame:
    """The inverse of :func:`frame_facts`."""
    return Frame(
        name=facts["name"],
        image=image,
        width=facts["width"],
        height=facts["height"],
        labelled=facts["labelled"],
        boxes=tuple(Box(*box) for box in facts["boxes"]),
        identity=identity,
        validation=facts["validation"],
    )


def fingerprint(frame: Frame) -> bytes:
    """32 bytes over everything that makes two uploads of one identity the same."""
    return content_digest(frame.digest + json_text(frame_facts(frame)).encode())


def identity_of(frame: Frame) -> FrameIdentity:
    """The frame's identity.

    Raises:
        StoreError: It has none.
    """
    if frame.identity is None:
        raise StoreError(f"frame {frame.name!r} has no identity; number it before storing it")
    return frame.identity


def marked(frame: Frame, validation: bool) -> Frame:
    """The frame with the validation mark set if either says so."""
    return dataclasses.replace(frame, validation=frame.validation or validation)


def source_facts(frame_meta: Mapping[str, Any], digest: bytes, size: int) -> dict[str, Any]:
    """The entry :data:`SOURCE_KEY` for a frame with these facts and original."""
    return {"digest": digest.hex(), "size": size, **frame_meta}


@dataclass(frozen=True, slots=True)
class SourceFrame:
    """A validation frame's original as a record's meta describes it.

    Attributes:
        digest: Content hash of the image.
        size: Bytes of the image.
        facts: As :func:`frame_facts`.
    """

    digest: bytes
    size: int
    facts: Mapping[str, Any]

    def frame(self, image: bytes, identity: FrameIdentity | None) -> Frame:
        """The frame with its fetched image."""
        return frame_of(self.facts, image, identity)


def source_frame(meta: Mapping[str, Any]) -> SourceFrame | None:
    """The labelled validation original that a meta describes; None without a sound one.

    The meta came over a network, so every value is checked.
    """
    source = meta.get(SOURCE_KEY)
    if not isinstance(source, Mapping):
        return None
    try:
        digest = bytes.fromhex(source["digest"])
        facts = {key: source[key] for key in ("name", "width", "height", "labelled", "validation", "boxes")}
        size = source["size"]
        numbers = (size, facts["width"], facts["height"])
        sound = (
            len(digest) == 32
            and all(type(number) is int and 0 < number < 2**40 for number in numbers)
            and isinstance(facts["name"], str)
            and facts["labelled"] is True
            and facts["validation"] is True
            and all(isinstance(box[4], str) and math.isfinite(sum(box[:4])) for box in facts["boxes"])
        )
        if not sound:
            return None
        frame_of(facts, b"", None)
    except (KeyError, TypeError, ValueError, IndexError, BoxError):
        return None
    return SourceFrame(digest, size, facts)


def keyframe_facts(keyframe: Keyframe) -> dict[str, Any]:
    """The entry :data:`KEYFRAME_KEY` for a packet that refers to ``keyframe``."""
    return {"digest": keyframe.digest.hex(), "size": keyframe.size}


def keyframe_of(meta: Mapping[str, Any]) -> Keyframe | None:
    """The keyframe that a packet's meta names; None without a sound one.

    The meta came over a network, so every value is checked.
    """
    entry = meta.get(KEYFRAME_KEY)
    if not isinstance(entry, Mapping):
        return None
    try:
        digest, size = bytes.fromhex(entry["digest"]), entry["size"]
    except (KeyError, TypeError, ValueError):
        return None
    sound = len(digest) == 32 and type(size) is int and 0 < size < 2**40
    return Keyframe(digest, size) if sound else None


def verified(what: str, data: object, digest: bytes) -> bytes:
    """``data`` when it is bytes of this content hash; a damaged column may hold anything.

    Raises:
        StoreCorruptError: It has another; ``what`` names the record.
    """
    if not isinstance(data, bytes) or content_digest(data) != digest:
        raise StoreCorruptError(f"{what} does not match its checksum")
    return data
