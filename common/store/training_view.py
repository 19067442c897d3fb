"""What a trainer reads of a store, and how every store is closed: contracts."""

from __future__ import annotations

from abc import abstractmethod
from types import TracebackType
from typing import Protocol, Self

from common.frame import Frame, FrameIdentity
from common.store.corrections import Correction
from common.store.records import Record

__all__ = ["Closable", "TrainingView"]


class Closable(Protocol):
    """Opened once, closed once; a context manager. Every implementation derives from it."""

    @abstractmethod
    def close(self) -> None:
        """Give up files and locks; further calls raise StoreError."""
        ...

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class TrainingView(Closable, Protocol):
    """What the trainer reads, in its own process, while the daemon writes.

    Positions here are of this store's own record sequence: at a fog the log position, at an edge
    the order in which records were applied. Both only grow.
    """

    @property
    def last_position(self) -> int:
        """Position of the newest record; 0 when there is none."""
        ...

    @property
    def damaged(self) -> tuple[str, ...]:
        """One sentence for each damaged item that this view has left out so far."""
        ...

    def packets_after(self, position: int, limit: int, max_bytes: int = 64 << 20) -> list[tuple[int, bytes]]:
        """Packets in order, training and validation alike: the packet says which.

        At an edge a packet whose keyframe is not there is left out; it comes once the keyframe has come.

        Args:
            position: Packets after this one.
            limit: At most this many.
            max_bytes: Stop before exceeding this many bytes, but give at least one packet.

        Returns:
            (position, packet bytes) of each.
        """
        ...

    def packet(self, digest: bytes) -> bytes | None:
        """The packet with this content hash, such as the keyframe of another; None if it is not there."""
        ...

    def packet_of(self, identity: FrameIdentity) -> bytes | None:
        """The packet of this frame; None if it is not there or cannot be used yet."""
        ...

    def corrections_after(self, position: int, limit: int) -> list[tuple[int, Correction]]:
        """Corrected labels in the order of their records, superseded ones too.

        Args:
            position: Records after this one.
            limit: At most this many.

        Returns:
            (position, correction) of each sound one.
        """
        ...

    def correction(self, identity: FrameIdentity) -> Correction | None:
        """The labels that hold for this frame now, if they were corrected."""
        ...

    def validation_originals(self, limit: int) -> list[Frame]:
        """The newest labelled validation frames whose original image is here, newest first.

        Boxes are in pixels of the original image, and corrected where a correction is here.
        """
        ...

    def latest_weights(self) -> tuple[Record, bytes] | None:
        """The newest weights record with its safetensors bytes, or None."""
        ...
