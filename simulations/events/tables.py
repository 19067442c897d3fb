"""CSV files of a simulation: the timeline and the devices; the same scenario gives the same bytes."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from simulations.events.simulation import Outcome

__all__ = ["QUEUES", "queues", "write_devices", "write_timeline"]

QUEUES = ("waiting_on_devices", "waiting_at_fogs", "waiting_copies")
"""Frames not yet on a fog's disk; frames there that are not encoded; copies wanted and not delivered."""

DEVICE_COLUMNS = (
    "device",
    "fog",
    "recorded",
    "dropped",
    "uploaded",
    "refused",
    "encoded",
    "wanted",
    "delivered",
    "jpeg_bytes",
    "packet_bytes",
    "bytes_up",
    "bytes_down",
    "mean_latency_s",
    "most_waiting",
    "rounds",
)


def queues(sums: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Lengths of the queues at the end of each row of the timeline, (rows,) float64 each.

    Args:
        sums: Of :meth:`simulations.events.figures.Timeline.sums`.
    """
    lengths = (
        sums["recorded"] - sums["dropped"] - sums["uploaded"],
        sums["uploaded"] - sums["encoded"],
        sums["wanted"] - sums["delivered"],
    )
    return dict(zip(QUEUES, lengths, strict=True))


def write_timeline(outcome: Outcome, path: Path) -> None:
    """Write one row a span of time: sums since the beginning, and what waits at the span's end."""
    timeline = outcome.run.timeline
    sums = timeline.sums()
    if not outcome.fogs:
        # Device to device nothing waits for an encoder.
        sums["encoded"] = sums["uploaded"]
    table = {**sums, **queues(sums)}
    rows = len(sums["recorded"])
    columns = [table[name].round().astype(np.int64).tolist() for name in table]
    seconds = [f"{(number + 1) * timeline.sample_s:.12g}" for number in range(rows)]
    _write(path, ("seconds", *table), zip(seconds, *columns, strict=True))


def write_devices(outcome: Outcome, path: Path) -> None:
    """Write one row a device: what it recorded, sent and received until the end."""
    place = {device.number: number for number, devices in enumerate(outcome.places) for device in devices}
    rows = (
        (
            device.name,
            place[device.number],
            device.recorded,
            device.dropped,
            device.uploaded,
            device.refused,
            device.encoded,
            device.wanted,
            device.delivered,
            device.jpeg_bytes,
            device.packet_bytes,
            round(device.bytes_up),
            round(device.bytes_down),
            f"{device.latency_s / device.delivered:.6f}" if device.delivered else "",
            device.most_waiting,
            0 if device.learner is None else device.learner.rounds,
        )
        for device in outcome.devices
    )
    _write(path, DEVICE_COLUMNS, rows)


def _write(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
