"""Frames a second that one and two encoder workers encode, as child processes and on Ray, on this machine.

    python benchmarks/encode_workers.py [SRC] [--frames N] [--rounds N] [--out DIR] [--json]

The fog's own pools, state machine and store run without a network; every worker has one thread. All pools are
started and have encoded before anything is timed, and take turns in each round; frames of every round are new
to them. Then a worker on Ray is killed in the middle, and frames in are compared with packets out.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

from common.cli import add_json, make_folder, print_json, progress, run_command
from common.datasets import open_source
from common.errors import EncodeError, UsageError
from common.frame import Frame, FrameIdentity
from common.node.child import stop_children
from common.node.jobs import Call
from common.node.mailbox import Mailbox
from common.node.settings import ChildSettings
from common.store import open_fog_store
from common.store.records import RecordKind
from fog_node.encoders.encoder_settings import EncoderSettings
from fog_node.encoding import Assign, EncodingInstruction, EncodingState, FinishFrames, Kill, LoadPending
from fog_node.log_records import finish_frames
from fog_node.settings import WorkerSettings
from fog_node.workers.encoder_messages import StartEncoder
from fog_node.workers.encoder_pool import encoder_pool
from simulations.loopback_scenario import load_loopback_scenario
from simulations.moving_crops import make_clip

DEVICES = 4
"""Cameras whose frames are mixed, as a fog gets them."""

BATCH_FRAMES = 2
"""Frames of a batch; the default profile encodes one by one, so this only evens out the end of a run."""

CLIP_FRAMES = 96
"""Frames in which the crop passes over the photograph; each camera has a piece of it."""

START_LIMIT_S = 300.0
"""Longest wait for the workers, seconds."""


class Lane:
    """One way to run workers: its pool, its state machine and its store."""

    def __init__(self, name: str, settings: WorkerSettings, encoder: EncoderSettings, folder: Path) -> None:
        self.name = name
        self.count = settings.workers
        self._ready: set[int] = set()
        self._mailbox: Mailbox[Call] = Mailbox()
        self._store = open_fog_store(folder / name.replace(" ", "-"))
        self._encoding = EncodingState(
            workers=settings.workers,
            batch_frames=BATCH_FRAMES,
            wait_s=0.0,
            attempts=settings.attempts,
            batch_timeout_s=settings.batch_timeout_s,
            retry_s=1.0,
        )
        start = StartEncoder(encoder.model_dump(mode="json"), settings.device, settings.threads)
        self.pool = encoder_pool(
            settings,
            ChildSettings(restart_first_s=0.1),
            start,
            self._mailbox,
            on_ready=self._is_ready,
            on_encoded=lambda number, answer: self._perform(
                self._encoding.batch_encoded(number, answer.batch, answer.results, time.monotonic())
            ),
            on_lost=lambda number, how, blamed: self._perform(
                self._encoding.worker_lost(number, how, time.monotonic(), blamed=blamed)
            ),
        )

    def start(self) -> float:
        """Start every worker; seconds until all can encode."""
        begin = time.monotonic()
        while len(self._ready) < self.count:
            if time.monotonic() - begin > START_LIMIT_S:
                raise EncodeError(f"the workers of {self.name} have not started: {self.pool.status()}")
            self._turn()
        return time.monotonic() - begin

    def encode(
        self, frames: Sequence[Frame], meanwhile: Callable[[int], None] | None = None
    ) -> dict[str, Any]:
        """Commit frames and wait for their records.

        Args:
            frames: Frames that this lane has not seen.
            meanwhile: Called again and again with the number of records so far.
        """
        before = self._store.last_position
        begin = time.monotonic()
        self._store.commit_frames(frames)
        self._perform(self._encoding.frames_committed(begin))
        while (done := self._store.last_position - before) < len(frames):
            if meanwhile is not None:
                meanwhile(done)
            self._turn()
        seconds = time.monotonic() - begin
        records = self._store.read(before, len(frames) + 1, 1 << 30).records
        packets = [record for record in records if record.kind is RecordKind.PACKET]
        return {
            "frames": len(frames),
            "packets": len(packets),
            "tombstones": len(records) - len(packets),
            "distinct": len({(record.device, record.epoch, record.number) for record in packets}),
            "seconds": seconds,
            "frames_per_second": len(frames) / seconds,
            "bytes_per_frame": sum(record.size for record in packets) / max(1, len(packets)),
            "keyframes": sum("keyframe" not in record.meta for record in packets),
        }

    def close(self) -> None:
        """End the workers."""
        self.pool.stop()
        stop_children(self.pool.children, {"type": "stop"}, stop_s=2.0, terminate_s=10.0)
        self._mailbox.close()
        self._store.close()

    def _is_ready(self, number: int) -> None:
        self._ready.add(number)
        self._perform(self._encoding.worker_ready(number, time.monotonic()))

    def _turn(self) -> None:
        now = time.monotonic()
        self.pool.tick(now)
        for call in self._mailbox.drain():
            call()
        self._perform(self._encoding.tick(now))
        time.sleep(0.005)

    def _perform(self, instructions: Sequence[EncodingInstruction]) -> None:
        for instruction in instructions:
            now = time.monotonic()
            match instruction:
                case Assign():
                    self.pool.assign(instruction)
                case Kill(worker):
                    self.pool.kill(worker)
                case LoadPending(limit, after):
                    self._perform(self._encoding.loaded(self._store.pending_frames(limit, after), limit, now))
                case FinishFrames(items):
                    finish_frames(self._store, items)
                    self._perform(self._encoding.finished(now))


def load_frames(source: Path | None, count: int) -> list[list[Frame]]:
    """Frames of each camera, ``count`` in all, without identity."""
    each = count // DEVICES
    if source is None:
        scenario = load_loopback_scenario()
        clip = list(make_clip(scenario.clips[0], CLIP_FRAMES, scenario.width, 90, scenario.min_visible))
    else:
        clip = list(open_source(source, max_frames=max(CLIP_FRAMES, count)))
    if len(clip) < count:
        raise UsageError(f"--frames is {count}, but the source has {len(clip)}")
    stride = len(clip) // DEVICES
    return [clip[camera * stride : camera * stride + each] for camera in range(DEVICES)]


def arriving(cameras: Sequence[Sequence[Frame]], turn: int) -> list[Frame]:
    """The frames as they come in, of devices that no one has seen before."""
    return [
        replace(frame, identity=FrameIdentity(f"{turn:036d}{camera:04d}", 1, number))
        for number, together in enumerate(zip(*cameras, strict=True))
        for camera, frame in enumerate(together)
    ]


def measure(arguments: argparse.Namespace, report: dict[str, Any]) -> None:
    """Fill the report."""
    cameras = load_frames(arguments.source, arguments.frames)
    encoder = EncoderSettings.model_validate({"width": arguments.width, "stream": {"mode": arguments.stream}})
    kinds: dict[str, dict[str, Any] | None] = {"processes": None}
    if find_spec("ray") is not None:
        kinds["Ray"] = {}
    else:
        sys.stderr.write("workers on Ray are left out: Ray is not installed; install residual-inr[ray]\n")
    with ExitStack() as resources:
        folder = Path(resources.enter_context(tempfile.TemporaryDirectory()))
        lanes = []
        for kind, ray in kinds.items():
            for count in (1, 2):
                settings = WorkerSettings.model_validate(
                    {"workers": count, "threads": 1, "device": arguments.device, "ray": ray}
                )
                lane = Lane(f"{kind} {count}", settings, encoder, folder)
                resources.callback(lane.close)
                lanes.append(lane)
        runs: dict[str, list[dict[str, Any]]] = {lane.name: [] for lane in lanes}
        starts = {}
        warm = [frames[:1] for frames in cameras]
        for lane in progress(lanes, total=len(lanes), title="workers start", quiet=arguments.json):
            starts[lane.name] = lane.start()
            lane.encode(arriving(warm, 0))
        turns = [(turn, lane) for turn in range(1, arguments.rounds + 1) for lane in lanes]
        for turn, lane in progress(turns, total=len(turns), title="rounds", quiet=arguments.json):
            runs[lane.name].append(lane.encode(arriving(cameras, turn)))
        report["workers"] = {
            name: {
                "start_seconds": starts[name],
                "frames_per_second": statistics.median(run["frames_per_second"] for run in rows),
                "rounds": [run["frames_per_second"] for run in rows],
                "bytes_per_frame": statistics.median(run["bytes_per_frame"] for run in rows),
                "keyframes": statistics.median(run["keyframes"] for run in rows),
            }
            for name, rows in runs.items()
        }
        for kind in kinds:
            report["workers"][f"{kind} 2"]["over_one"] = statistics.median(
                two["frames_per_second"] / one["frames_per_second"]
                for one, two in zip(runs[f"{kind} 1"], runs[f"{kind} 2"], strict=True)
            )
        report["killed"] = killed(lanes[-1], arriving(cameras, arguments.rounds + 1))


def killed(lane: Lane, frames: Sequence[Frame]) -> dict[str, Any]:
    """Encode with one worker killed after a third of the frames."""
    victims: list[int] = []

    def strike(done: int) -> None:
        if done >= len(frames) // 3 and not victims:
            pid = lane.pool.status()[0]["pid"]
            victims.append(pid)
            os.kill(pid, signal.SIGKILL)

    result = lane.encode(frames, strike)
    return {"workers": lane.name, "killed": len(victims), **result}


def table(report: dict[str, Any]) -> str:
    """The figures as lines."""
    lines = ["workers        frames/s   over one   bytes/frame   keyframes   start s"]
    for name, row in report["workers"].items():
        ratio = f"{row['over_one']:.2f}" if "over_one" in row else ""
        lines.append(
            f"{name:12} {row['frames_per_second']:10.3f} {ratio:>10} {row['bytes_per_frame']:13.0f} "
            f"{row['keyframes']:11.0f} {row['start_seconds']:9.1f}"
        )
    end = report["killed"]
    lines.append(
        f"{end['workers']}, one killed in the middle: {end['frames']} frames in, {end['packets']} packets "
        f"out ({end['distinct']} distinct), {end['tombstones']} tombstones, {end['seconds']:.1f} s"
    )
    return "\n".join(lines) + "\n"


def plot(report: dict[str, Any], path: Path) -> None:
    """Bars of frames a second, with every round as a dot."""
    rows = report["workers"]
    figure, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
    axes.bar(list(rows), [row["frames_per_second"] for row in rows.values()], color="#7a9cc6", width=0.6)
    for place, row in enumerate(rows.values()):
        axes.plot([place] * len(row["rounds"]), row["rounds"], "o", color="#223", markersize=3)
        if "over_one" in row:
            axes.annotate(
                f"{row['over_one']:.2f} x", (place, 0), xytext=(0, 4), textcoords="offset points", ha="center"
            )
    axes.set_ylabel("frames a second")
    axes.set_title(f"Encoding with one and two workers of one thread ({report['machine']})", fontsize=9)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def _run(arguments: argparse.Namespace) -> int:
    if arguments.frames < DEVICES or arguments.frames % DEVICES:
        raise UsageError(f"--frames is {arguments.frames}; it must be a multiple of {DEVICES}")
    if arguments.rounds < 1:
        raise UsageError(f"--rounds is {arguments.rounds}; it must be at least 1")
    report: dict[str, Any] = {
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        "source": "made clips" if arguments.source is None else arguments.source.name,
        "stream": arguments.stream,
        "width": arguments.width,
        "frames": arguments.frames,
    }
    folder = None if arguments.out is None else make_folder(arguments.out)
    measure(arguments, report)
    if folder is not None:
        (folder / "encode_workers.json").write_text(json.dumps(report, indent=1) + "\n")
        plot(report, folder / "encode_workers.png")
    if arguments.json:
        print_json(report)
    else:
        sys.stdout.write(table(report))
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", nargs="?", type=Path, metavar="SRC", help="frames (default: made clips)")
    parser.add_argument("--frames", type=int, default=32, help="frames of each run (32)")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each kind; medians are stated (3)")
    parser.add_argument(
        "--stream",
        choices=("off", "devices"),
        default="devices",
        help="encoder.stream.mode: off encodes every frame by itself (devices)",
    )
    parser.add_argument("--width", type=int, default=640, help="coded width, pixels (640)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="cpu", help="where (cpu)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write encode_workers.json and .png there")
    add_json(parser)
    parser.set_defaults(command=_run)
    return run_command(parser, argv)


if __name__ == "__main__":
    raise SystemExit(main())
