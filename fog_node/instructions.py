"""What the fog's session state machine tells its shell to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from common.frame import Box, Frame, FrameIdentity
from common.store.records import RecordKind
from common.wire.messages import Message

__all__ = ["Commit", "Instruction", "ReadBlob", "ReadLog", "Send", "WriteCorrection"]


@dataclass(frozen=True, slots=True)
class Send:
    """Instruction: send to a connection; when it cannot take it, call :meth:`FogState.unreachable`."""

    routing_id: bytes
    message: Message
    key: str


@dataclass(frozen=True, slots=True)
class Commit:
    """Instruction: commit these frames in one transaction, then call ``committed`` or ``commit_failed``."""

    frames: tuple[Frame, ...]


@dataclass(frozen=True, slots=True)
class ReadLog:
    """Instruction: read a page of the log for a session, then call ``page_read`` or ``page_failed``."""

    session: int
    after: int
    limit: int
    max_bytes: int
    devices: frozenset[str] | None
    kinds: frozenset[RecordKind]


@dataclass(frozen=True, slots=True)
class ReadBlob:
    """Instruction: read a piece of a payload for a session, then call ``blob_read`` or ``blob_failed``.

    Only if the content comes from one of ``devices`` (None: from any).
    """

    session: int
    digest: bytes
    offset: int
    length: int
    devices: frozenset[str] | None


@dataclass(frozen=True, slots=True)
class WriteCorrection:
    """Instruction: append corrected labels for a session, then call ``correction_written`` or ``_failed``."""

    session: int
    identity: FrameIdentity
    revision: int
    labelled: bool
    boxes: tuple[Box, ...]


Instruction: TypeAlias = Send | Commit | ReadLog | ReadBlob | WriteCorrection
