"""Rates of the fog's store and of the message framing on this machine.

    python benchmarks/store_and_wire.py [--frames N] [--size BYTES] [--folder DIR] [--json]

Commits are durable: each group is one SQLite transaction with synchronous=FULL.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from common.frame import Box, Frame, FrameIdentity
from common.store import open_edge_store, open_fog_store
from common.store.contract import FogStore
from common.store.records import RecordKind
from common.wire.framing import decode, encode
from common.wire.messages import Upload

DEVICE = "d" * 40
GROUPS = (1, 8, 32)
PACKET_BYTES = 10_000


def rate(count: int, work: Callable[[], object]) -> float:
    """Items per second of a piece of work."""
    start = time.perf_counter()
    work()
    return count / (time.perf_counter() - start)


def make_frames(count: int, size: int, epoch: int) -> list[Frame]:
    """Frames of random bytes with one box each."""
    boxes = (Box(10, 20, 60, 90),)
    return [
        Frame(f"{n:06d}", os.urandom(size), 640, 360, True, boxes, FrameIdentity(DEVICE, epoch, n))
        for n in range(count)
    ]


def commit_groups(fog: FogStore, groups: list[list[Frame]]) -> None:
    """One transaction a group."""
    for group in groups:
        fog.commit_frames(group)


def measure(folder: Path, count: int, size: int) -> dict[str, float]:
    """All rates, per second."""
    figures: dict[str, float] = {}
    packet = os.urandom(PACKET_BYTES)
    with open_fog_store(folder / "fog") as fog, open_edge_store(folder / "edge", DEVICE) as edge:
        for group in GROUPS:
            frames = make_frames(count, size, epoch=group)
            parts = [frames[start : start + group] for start in range(0, count, group)]
            commits = partial(commit_groups, fog, parts)
            figures[f"fog_commits_group_{group}"] = rate(count, commits)
        pending = [item.identity for item in fog.pending_frames(count)]
        figures["fog_finishes"] = rate(
            count, lambda: [fog.finish(identity, RecordKind.PACKET, {}, packet) for identity in pending]
        )
        frames = make_frames(count, size, epoch=0)
        figures["edge_records"] = rate(count, lambda: [edge.record_frame(f.name, f) for f in frames])
        page = fog.read(0, count, 1 << 40)
        figures["fog_log_reads"] = rate(count, lambda: fog.read(0, count, 1 << 40))
        parts_of_page = [page.records[start : start + 32] for start in range(0, count, 32)]
        figures["edge_applies_group_32"] = rate(
            count, lambda: [edge.apply(part, part[-1].position) for part in parts_of_page]
        )
        uploads = [Upload.of(frame) for frame in frames]
        encoded = [encode(upload) for upload in uploads]
        figures["upload_encodes"] = rate(count, lambda: [encode(upload) for upload in uploads])
        figures["upload_decodes"] = rate(count, lambda: [decode(parts) for parts in encoded])
    return figures


def main() -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=500, help="frames of each measurement (500)")
    parser.add_argument("--size", type=int, default=60_000, help="bytes of an image (60000)")
    parser.add_argument("--folder", type=Path, default=None, help="where the stores go (a temporary folder)")
    parser.add_argument("--json", action="store_true", help="print exactly one JSON object")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        figures = measure(Path(folder), arguments.frames, arguments.size)
    if arguments.json:
        sys.stdout.write(json.dumps(figures) + "\n")
    else:
        for name, value in figures.items():
            sys.stdout.write(f"{name:24} {value:10.0f} /s\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
