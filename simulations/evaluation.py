"""What a finished deployment holds: quality of its packets, decoding speed, detectors on both clips, hashes.

Needs torch; nothing here runs inside a daemon.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np
import torch

from common.bitstream import Packet
from common.errors import DeploymentError
from common.frame import Frame, content_digest
from common.images import Rgb, decode_image, scale_to_width
from common.inr.compose import to_bytes
from common.inr.decode import compose_packets
from common.learning.batches import decode_batch
from common.learning.detector import load_detector
from common.learning.resident import ResidentStore
from common.learning.settings import TrainingSettings
from common.learning.validation import ValidationSet, evaluate
from common.learning.weights import DetectorWeights
from common.quality import frame_quality
from common.store.contract import EdgeStore, FogStore
from common.store.records import Record, RecordKind
from simulations.pictures import side_by_side
from simulations.recordings import Recordings
from simulations.report import DetectorScore

__all__ = [
    "Quality",
    "decode",
    "decoding_speed",
    "log_records",
    "measure_quality",
    "picture",
    "score_detectors",
    "verified_records",
]

PAGE_RECORDS = 256
PAGE_BYTES = 16 << 20
"""How much of a log is read at a time."""


@dataclass(frozen=True, slots=True)
class Quality:
    """Distortion over all packets.

    Attributes:
        background_db: Mean background PSNR over frames, dB; None when no frame has a background.
        object_db: Mean PSNR over objects, dB; None without objects.
        objects: Number of objects.
    """

    background_db: float | None
    object_db: float | None
    objects: int


Keyframes = Mapping[bytes, Packet]
"""Packets to which others refer, by content hash."""


def decode(packet: Packet, keyframes: Keyframes | None = None, *, with_objects: bool = True) -> Rgb:
    """Pixels of one packet at its coded size, (H, W, 3) uint8 RGB.

    Args:
        packet: What to decode.
        keyframes: Where its keyframe is found.
        with_objects: False: what the background alone gives.
    """
    with torch.no_grad():
        pixels = to_bytes(compose_packets([packet], objects=with_objects, keyframes=keyframes))[0]
    return np.ascontiguousarray(pixels.permute(1, 2, 0).numpy())


def measure_quality(
    packets: Sequence[Packet], sources: Mapping[bytes, Frame], keyframes: Keyframes | None = None
) -> Quality:
    """Decode stored packets and compare them with the recorded frames, by content hash of the source.

    Args:
        packets: Packets of the log.
        sources: Recorded frame by content hash.
        keyframes: Where the packets' keyframes are found.

    Raises:
        DeploymentError: A packet names a source that nobody recorded.
    """
    backgrounds: list[float] = []
    objects: list[float] = []
    for packet in packets:
        regions = [box.region(packet.width, packet.height) for box in packet.boxes]
        inside = [region for region in regions if region is not None]
        background, boxes = frame_quality(decode(packet, keyframes), coded_source(packet, sources), inside)
        if background is not None:
            backgrounds.append(background)
        objects += boxes
    return Quality(
        fmean(backgrounds) if backgrounds else None, fmean(objects) if objects else None, len(objects)
    )


def coded_source(packet: Packet, sources: Mapping[bytes, Frame]) -> Rgb:
    """The recorded frame of a packet, scaled to the packet's size, (H, W, 3) uint8 RGB.

    Raises:
        DeploymentError: Nobody recorded it, or its shape differs.
    """
    frame = sources.get(packet.source_digest)
    if frame is None:
        raise DeploymentError("the log holds a packet of a frame that no edge of this run recorded")
    rgb, _ = scale_to_width(decode_image(frame.image), packet.width)
    if rgb.shape[0] != packet.height:
        raise DeploymentError(
            f"frame {frame.name!r} is {packet.height} pixels high as a packet and {rgb.shape[0]} as recorded"
        )
    return rgb


def picture(
    packet: Packet, sources: Mapping[bytes, Frame], keyframes: Keyframes | None = None
) -> tuple[str, Rgb]:
    """Name of a packet's frame and its side-by-side picture."""
    frame = sources[packet.source_digest]
    background = decode(packet, keyframes, with_objects=False)
    panels = coded_source(packet, sources), background, decode(packet, keyframes)
    return frame.name, side_by_side(*panels, packet.boxes)


def decoding_speed(
    packets: Sequence[Packet],
    settings: TrainingSettings,
    seconds: float = 1.0,
    keyframes: Keyframes | None = None,
) -> float | None:
    """Frames a second that are decoded into training batches, on this process' threads.

    Args:
        packets: Packets of the log; those that train are decoded.
        settings: Image size, batch and classes.
        seconds: How long to measure at least.
        keyframes: Where the packets' keyframes are found.

    Returns:
        None when no packet trains.
    """
    store = ResidentStore("cpu", settings.memory_bytes, settings)
    store.add(packets, keyframes)
    if len(store) == 0:
        return None
    numbers = store.numbers
    batches = [numbers[at : at + settings.batch] for at in range(0, len(numbers), settings.batch)]
    with torch.no_grad():
        decode_batch(store, batches[0], settings.imgsz)
        done, begin = 0, time.perf_counter()
        while time.perf_counter() - begin < seconds:
            for frames in batches:
                decode_batch(store, frames, settings.imgsz)
                done += len(frames)
    return done / (time.perf_counter() - begin)


def score_detectors(
    detectors: Sequence[tuple[str, DetectorWeights]], recordings: Recordings, settings: TrainingSettings
) -> tuple[DetectorScore, ...]:
    """Mean average precision of every detector on the validation originals of both clips."""
    models = [load_detector(weights) for _, weights in detectors]
    scores = []
    for clip in (0, 1):
        frames = ValidationSet(recordings.validation(clip), settings)
        found = evaluate(models, frames, settings, torch.device("cpu"))
        scores += [
            DetectorScore(name, recordings.names[clip], result.map50, result.map50_95)
            for (name, _), result in zip(detectors, found, strict=True)
        ]
    order = [name for name, _ in detectors]
    return tuple(sorted(scores, key=lambda score: order.index(score.detector)))


def log_records(store: FogStore) -> list[Record]:
    """Every record of the fog's log, in order; each was checked against its checksum on the way."""
    records: list[Record] = []
    after = 0
    while True:
        page = store.read(after, PAGE_RECORDS, PAGE_BYTES)
        records += page.records
        after = page.through
        if not page.more:
            return records


def verified_records(log: Sequence[Record], edge: EdgeStore) -> tuple[int, int]:
    """(records in the edge's store, how many of them are in the log with the same content hash).

    The hash of a packet is computed here from the bytes that the edge would train on.
    """
    expected = {(r.kind, r.device, r.epoch, r.number): r.digest for r in log}
    held = [record for _, record in edge.records(0, len(log) + 1_000_000)]
    with edge.training_view() as view:
        packets: set[bytes] = set()
        after = 0
        while batch := view.packets_after(after, PAGE_RECORDS):
            packets.update(content_digest(data) for _, data in batch)
            after = batch[-1][0]
        latest = view.latest_weights()
    hashes = packets | ({content_digest(latest[1])} if latest else set())
    right = 0
    for record in held:
        same = expected.get((record.kind, record.device, record.epoch, record.number)) == record.digest
        computed = record.kind is not RecordKind.PACKET or record.digest in hashes
        right += same and computed
    if latest and latest[0].digest not in hashes:
        right -= 1
    return len(held), right
