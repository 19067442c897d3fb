"""What a store drops and when it is full: a pure policy, told what there is, without a disk or a clock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from common.store.settings import RetentionSettings

__all__ = ["Entry", "Retained", "Retention", "Usage"]


@dataclass(frozen=True, slots=True)
class Usage:
    """What a store holds.

    Attributes:
        records: Records kept.
        record_bytes: Their payload bytes, files included.
        original_bytes: Bytes of original images kept of frames that are done.
    """

    records: int = 0
    record_bytes: int = 0
    original_bytes: int = 0

    def plus(self, records: int = 0, record_bytes: int = 0, original_bytes: int = 0) -> Usage:
        """With this much more, or less where negative."""
        return Usage(
            self.records + records, self.record_bytes + record_bytes, self.original_bytes + original_bytes
        )


@dataclass(frozen=True, slots=True)
class Entry:
    """One record as the policy sees it.

    Attributes:
        place: Its place in the order in which records are dropped.
        time: When it came, seconds since 1970.
        size: Payload bytes.
    """

    place: int
    time: float
    size: int


@dataclass(frozen=True, slots=True)
class Retained:
    """What one look at a store has dropped.

    Attributes:
        records: Records dropped.
        record_bytes: Their payload bytes.
        originals: Original images dropped.
        more: Whether there is more to drop: look again at once.
    """

    records: int = 0
    record_bytes: int = 0
    originals: int = 0
    more: bool = False


class Retention:
    """Decides by age, by bytes and by count.

    Args:
        settings: The limits.
        what: What holds the records, for sentences: ``log`` or ``inbox``.
    """

    def __init__(self, settings: RetentionSettings, what: str) -> None:
        self._settings = settings
        self._what = what

    @property
    def drops(self) -> bool:
        """Whether the oldest make room for the newest."""
        return self._settings.when_full == "drop_oldest"

    def refusal(self, usage: Usage, records: int = 0) -> str | None:
        """Why nothing more is taken in, in one sentence; None when there is room.

        Args:
            usage: What there is.
            records: Records that what was taken in already, or is offered now, will become.
        """
        settings = self._settings
        if self.drops:
            return None
        if settings.max_bytes is not None and usage.record_bytes >= settings.max_bytes:
            limit = f"max_bytes ({settings.max_bytes})"
        elif settings.max_records is not None and usage.records + records > settings.max_records:
            limit = f"max_records ({settings.max_records})"
        else:
            return None
        return (
            f"the {self._what} is full: it holds {usage.records} records of {usage.record_bytes} bytes, with "
            f"{records} to come, and has reached retention.{limit}; wait until old ones expire, raise the "
            f"limit, or set when_full to drop_oldest"
        )

    def through(self, oldest: Sequence[Entry], usage: Usage, now: float, shortage: int = 0) -> int | None:
        """Place of the last record to drop now; None to drop none.

        Args:
            oldest: The oldest records, in order; the decision may ask for all of them.
            usage: What there is in all.
            now: Present time, seconds since 1970. A record from the future has no age yet.
            shortage: Bytes that the disk lacks.
        """
        settings = self._settings
        records = size = 0
        if self.drops:
            size = shortage
            if settings.max_bytes is not None:
                size = max(size, usage.record_bytes - settings.max_bytes)
            if settings.max_records is not None:
                records = usage.records - settings.max_records
        place: int | None = None
        for entry in oldest[: settings.batch_records]:
            old = settings.max_age_s is not None and now - entry.time > settings.max_age_s
            if not old and records <= 0 and size <= 0:
                break
            place = entry.place
            records -= 1
            size -= entry.size
        return place

    def excess_originals(self, usage: Usage) -> int:
        """Bytes of originals to drop, the oldest first; 0 when they are within their bound."""
        limit = self._settings.max_original_bytes
        return 0 if limit is None else max(0, usage.original_bytes - limit)
