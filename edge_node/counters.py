"""What an edge node has done with one fog since it started, counted where it happens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from common.store.records import ApplyResult, Record, RecordKind
from common.wire.messages import Accepted, Corrected, Error, ErrorCode, Message, RecordMessage, Refused

__all__ = ["SessionCounters"]


@dataclass(slots=True)
class SessionCounters:
    """Counts of this process.

    Attributes:
        sessions: Sessions begun; all but the first are reconnections.
        acknowledged: Frames that the fog said it has on disk, once or again.
        refused: Refused uploads by code, for now or for good.
        errors: Errors told by the fog, by code.
        corrections: Answers to corrected labels by code; ``ok`` for those that the fog has on disk.
        sent, received: Messages by type.
        records_received: Records by kind.
        applied: Records stored.
        duplicates: Records that were there before: delivered again, stored once.
        conflicts: Records that contradict a stored one.
        waiting_for_keyframe: Packets stored before their keyframe.
        gap_records: Records that gaps stand for: missed for good.
    """

    sessions: int = 0
    acknowledged: int = 0
    refused: Counter[str] = field(default_factory=lambda: _zero(ErrorCode))
    errors: Counter[str] = field(default_factory=lambda: _zero(ErrorCode))
    corrections: Counter[str] = field(default_factory=lambda: _zero(("ok", *ErrorCode)))
    sent: Counter[str] = field(default_factory=Counter)
    received: Counter[str] = field(default_factory=Counter)
    records_received: Counter[str] = field(default_factory=lambda: _zero(RecordKind))
    applied: int = 0
    duplicates: int = 0
    conflicts: int = 0
    waiting_for_keyframe: int = 0
    gap_records: int = 0

    def was_sent(self, message: Message) -> None:
        """A message was given to the socket."""
        self.sent[type(message).__name__] += 1

    def was_received(self, message: Message) -> None:
        """A message of the session has come."""
        self.received[type(message).__name__] += 1
        match message:
            case Accepted(_, numbers):
                self.acknowledged += len(numbers)
            case Refused():
                self.refused[_known(message.code, self.refused)] += 1
            case Corrected():
                self.corrections[_known(message.code or "ok", self.corrections)] += 1
            case Error():
                self.errors[_known(message.code, self.errors)] += 1
            case RecordMessage():
                self.records_received[_known(message.kind, self.records_received)] += 1
            case _:
                pass

    def was_applied(self, records: Sequence[Record], result: ApplyResult) -> None:
        """Records were stored, or found to be there."""
        self.applied += result.applied
        self.duplicates += result.duplicates
        self.conflicts += len(result.conflicts)
        self.waiting_for_keyframe += result.waiting
        self.gap_records += sum(
            int(record.meta.get("count", 1)) for record in records if record.kind is RecordKind.GAP
        )

    def status(self) -> dict[str, Any]:
        """The part of the status file."""
        return {
            "sessions": self.sessions,
            "acknowledged": self.acknowledged,
            "refused": dict(self.refused),
            "errors": dict(self.errors),
            "corrections": dict(self.corrections),
            "messages_sent": dict(self.sent),
            "messages_received": dict(self.received),
            "records_received": dict(self.records_received),
            "applied": self.applied,
            "duplicates": self.duplicates,
            "conflicts": self.conflicts,
            "waiting_for_keyframe": self.waiting_for_keyframe,
            "gap_records": self.gap_records,
        }


def _zero(names: Iterable[str]) -> Counter[str]:
    """Counts that are known from the beginning: a rate can be taken of the first that happens."""
    return Counter({str(name): 0 for name in names})


def _known(name: str, counts: Counter[str]) -> str:
    """A name that a newer fog made up counts as ``other``: there is no end of names."""
    return str(name) if name in counts else "other"
