"""What an encoded frame becomes in the log, and what the log tells about frames encoded before."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from common.store.contract import FogStore
from common.store.corrections import trainable_change
from common.store.records import Record, RecordKind
from common.store.rows import KEYFRAME_KEY, keyframe_facts
from fog_node.encoding import Finish
from fog_node.planning import Tally
from fog_node.workers.encoder_messages import Encoded, NotEncoded

__all__ = ["Figures", "finish_frames", "record_of"]


def record_of(item: Finish) -> tuple[RecordKind, dict[str, Any], bytes]:
    """(kind, meta, payload) of a frame's record."""
    meta: dict[str, Any] = {}
    if item.frame is not None:
        meta = {
            "name": item.frame.name,
            "labelled": item.frame.labelled,
            "validation": item.frame.validation,
            "jpeg_bytes": len(item.frame.image),
            "width": item.frame.width,
            "height": item.frame.height,
        }
    if not isinstance(item.result, Encoded):
        return RecordKind.TOMBSTONE, {**meta, "reason": item.result.reason[:2000]}, b""
    meta |= {
        "background_psnr_db": item.result.background_psnr_db,
        "object_psnr_db": list(item.result.object_psnr_db),
        "encode_seconds": item.result.seconds,
        "reached_target": item.result.reached_target,
    }
    if item.result.keyframe is not None:
        meta[KEYFRAME_KEY] = keyframe_facts(item.result.keyframe)
    return RecordKind.PACKET, meta, item.result.packet


def finish_frames(store: FogStore, items: Iterable[Finish]) -> int:
    """Write records in order; returns the log's last position.

    A packet whose keyframe is no longer in the log becomes a tombstone: nobody could decode it.

    Raises:
        StoreError: The rest is not written; what was written stays, and doing it again does no harm.
    """
    for item in items:
        if (
            isinstance(item.result, Encoded)
            and item.result.keyframe is not None
            and store.blob_size(item.result.keyframe.digest) is None
        ):
            item = replace(item, result=NotEncoded("its keyframe is no longer in the log"))
        kind, meta, payload = record_of(item)
        store.finish(item.identity, kind, meta, payload)
    return store.last_position


@dataclass(slots=True)
class Figures:
    """Sums over encoded frames.

    Attributes:
        tallies: Frames and bytes by source device.
        trainable: Frames to train on (labelled, not held out).
        validation: Frames held out for validation.
        seconds: Encoding time of all packets, seconds.
        packets: Packets counted.
        on_target: Packets whose background and every box reached the target.
        background_db: Sum of background PSNR over packets that have one, dB.
        background_count: Their number.
        object_db: Sum of object PSNR over all boxes, dB.
        object_count: Number of boxes.
    """

    tallies: dict[str, Tally] = field(default_factory=dict)
    trainable: int = 0
    validation: int = 0
    seconds: float = 0.0
    packets: int = 0
    on_target: int = 0
    background_db: float = 0.0
    background_count: int = 0
    object_db: float = 0.0
    object_count: int = 0

    def add_record(self, record: Record) -> None:
        """Count a record of the log."""
        if record.kind in (RecordKind.PACKET, RecordKind.TOMBSTONE):
            self.add(record.device, record.kind, record.meta, record.size)
        elif record.kind is RecordKind.LABELS:
            self.trainable += trainable_change(record.meta)

    def add(self, device: str, kind: RecordKind, meta: Mapping[str, Any], size: int) -> None:
        """Count a packet or a tombstone of ``size`` payload bytes."""
        tally = self.tallies.setdefault(device, Tally())
        if kind is RecordKind.TOMBSTONE:
            tally.tombstones += 1
            return
        tally.frames += 1
        tally.jpeg_bytes += int(meta.get("jpeg_bytes", 0))
        tally.packet_bytes += size
        self.trainable += bool(meta.get("labelled")) and not meta.get("validation")
        self.validation += bool(meta.get("validation"))
        self.seconds += float(meta.get("encode_seconds", 0.0))
        self.packets += 1
        self.on_target += bool(meta.get("reached_target"))
        background = meta.get("background_psnr_db")
        if background is not None:
            self.background_db += float(background)
            self.background_count += 1
        objects = meta.get("object_psnr_db") or ()
        self.object_db += sum(float(value) for value in objects)
        self.object_count += len(objects)

    def status(self) -> dict[str, Any]:
        """Means for the status file; null where nothing was counted."""
        return {
            "packets": self.packets,
            "tombstones": sum(tally.tombstones for tally in self.tallies.values()),
            "trainable_frames": self.trainable,
            "jpeg_bytes": sum(tally.jpeg_bytes for tally in self.tallies.values()),
            "packet_bytes": sum(tally.packet_bytes for tally in self.tallies.values()),
            "encode_seconds_per_frame": _ratio(self.seconds, self.packets),
            "reached_target": _ratio(self.on_target, self.packets),
            "background_psnr_db": _ratio(self.background_db, self.background_count),
            "object_psnr_db": _ratio(self.object_db, self.object_count),
        }


def _ratio(total: float, count: int) -> float | None:
    return total / count if count else None
