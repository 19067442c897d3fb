"""How quickly a fog takes frames in durably and gives packets out, beside what its parts can do alone.

    python benchmarks/transport.py [--frames 1500] [--devices 4] [--rounds 7] [--out out/benchmarks] [--json]

*Uploads*: devices of a few lines send frames to a real fog daemon over CURVE as quickly as they are
acknowledged, each after its bytes are on disk. In the same run, in turns: the same messages to a bare ROUTER
that answers and keeps nothing, with CURVE and without, and the fog's store alone in a process of its own,
with as many frames in a transaction as the fog had. *share* is the fog's rate divided by that of the slower
baseline.

*Stall*: one device of several is stopped (SIGSTOP) amid its uploads and downloads: rates of the others,
against those while it works and while it rests. *Downlink*: packets to 1, 4 and 8 subscribers that pull a
whole log. *Edge*: real edge daemons with their durable outboxes record frames of a folder and upload them.

Figures are medians of the rounds. Encoders are idle.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import zmq

from common.cli import print_json, progress, run_command
from common.errors import UsageError
from delivery.baselines import raw_wire, store_alone
from delivery.edges import measure_edges
from delivery.fog import add_devices, finish_all, running_fog
from delivery.peers import Peer, Sent, encoded_uploads, exchange, make_frames, noise, subscribe
from delivery.plot import plot_transport
from delivery.stall import measure_stall

PARTS = ("uploads", "stall", "downlink", "edge")
IMAGES = 64
"""Different images; frames take them in turn."""
EDGES = (1, 4, 8)
PACKETS = (2_500, 25_000)
"""Bytes of a packet: of profile pyramid, and of the largest networks."""


def measure_uploads(
    folder: Path, *, frames: int, devices: int, rounds: int, size: int, quiet: bool = False
) -> dict[str, Any]:
    """Rates of the fog and of its baselines.

    Args:
        folder: Empty or new.
        frames: Of all devices, in each round and way.
        devices: That upload at the same time.
        rounds: After one that does not count.
        size: Bytes of an image.
        quiet: Show no progress.
    """
    pairs = add_devices(folder / "fog", folder, devices)
    images = noise(IMAGES, size, seed=0)
    each = frames // devices
    count = each * devices
    seconds: dict[str, list[float]] = {"fog": [], "raw_curve": [], "raw_plain": [], "store_alone": []}
    groups: list[float] = []
    cpu: list[float] = []
    with ExitStack() as stack:
        context = stack.enter_context(zmq.Context())
        fog = stack.enter_context(running_fog(folder / "fog"))
        wires = {
            "raw_curve": stack.enter_context(raw_wire(folder / "raw", pairs, curve=True)),
            "raw_plain": stack.enter_context(raw_wire(folder / "raw", pairs, curve=False)),
        }
        store = stack.enter_context(store_alone(folder / "alone", size))
        peers = [Peer(context, fog, pair) for pair in pairs]
        window = peers[0].window
        for number in progress(range(rounds + 1), total=rounds + 1, title="uploads", quiet=quiet):
            messages: list[Sent] = [
                encoded_uploads(make_frames(pair.public, images, number * each, each)) for pair in pairs
            ]
            before, start = fog.cpu_s(), time.perf_counter()
            answers = exchange([peer.socket for peer in peers], messages, window)
            seconds["fog"].append(time.perf_counter() - start)
            cpu.append(fog.cpu_s() - before)
            # A transaction acknowledges a device's frames in one message, so no device got more of them.
            groups.append(count / max(answers))
            for name, wire in wires.items():
                seconds[name].append(wire.seconds(messages, window))
            seconds["store_alone"].append(store.seconds(count, max(1, round(groups[-1]))))
        for peer in peers:
            peer.socket.close(0)
    size_mean = statistics.fmean(map(len, images))
    ways = {name: _rate(taken[1:], count, size_mean) for name, taken in seconds.items()}
    slower = min(ways["raw_curve"]["per_s"], ways["store_alone"]["per_s"])
    return {
        "frames": count,
        "devices": devices,
        "window": window,
        "image_bytes": size_mean,
        "frames_a_commit": statistics.median(groups[1:]),
        "fog_cpu_s_a_frame": statistics.median(cpu[1:]) / count,
        "ways": ways,
        "share": ways["fog"]["per_s"] / slower,
        "share_of_each_round": [
            max(*pair) / fog
            for fog, *pair in zip(
                seconds["fog"][1:], seconds["raw_curve"][1:], seconds["store_alone"][1:], strict=True
            )
        ],
    }


def _rate(seconds: Sequence[float], count: int, size: float) -> dict[str, Any]:
    rates = [count / taken for taken in seconds]
    middle = statistics.median(rates)
    return {"per_s": middle, "mb_per_s": middle * size / 1e6, "rounds": rates}


def measure_downlink(folder: Path, *, records: int, rounds: int, quiet: bool = False) -> list[dict[str, Any]]:
    """Rates at which subscribers get a whole log.

    Args:
        folder: Empty or new.
        records: Packets of the log.
        rounds: Of each number of edges and size of packets.
        quiet: Show no progress.
    """
    rows = []
    for size in progress(PACKETS, total=len(PACKETS), title="downlink", quiet=quiet):
        home = folder / str(size)
        pairs = add_devices(home / "fog", home, max(EDGES))
        with zmq.Context() as context:
            with running_fog(home / "fog") as fog:
                peer = Peer(context, fog, pairs[0])
                frames = make_frames(pairs[0].public, noise(8, 4_000, seed=0), 0, records)
                exchange([peer.socket], [encoded_uploads(frames)], peer.window)
                peer.socket.close(0)
            finish_all(home / "fog" / "store", size)
            with running_fog(home / "fog") as fog:
                for edges in EDGES:
                    rates = []
                    for _ in range(rounds):
                        peers = [Peer(context, fog, pair) for pair in pairs[:edges]]
                        start = time.perf_counter()
                        subscribe(peers, records)
                        rates.append(records * edges / (time.perf_counter() - start))
                        for peer in peers:
                            peer.socket.close(0)
                    middle = statistics.median(rates)
                    row = {"packet_bytes": size, "edges": edges, "records": records, "per_s": middle}
                    rows.append({**row, "mb_per_s": middle * size / 1e6, "rounds": rates})
    return rows


def stall_report(found: dict[str, Any]) -> dict[str, Any]:
    """Medians of the rounds of :func:`delivery.stall.measure_stall`, and what the others keep."""
    report = dict(found)
    for what in ("uploads_per_s", "records_per_s"):
        report[what] = {
            state: statistics.median(row[what] for row in rows) for state, rows in found["rounds"].items()
        }
    for state in ("working", "resting"):
        report[f"kept_against_{state}"] = {
            what: report[what]["stopped"] / report[what][state] for what in ("uploads_per_s", "records_per_s")
        }
    return report


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="transport.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", default=",".join(PARTS), help=f"what to measure ({','.join(PARTS)})")
    parser.add_argument("--frames", type=int, default=1500, help="frames of all devices in a round (1500)")
    parser.add_argument("--devices", type=int, default=4, help="devices that upload (4)")
    parser.add_argument("--rounds", type=int, default=7, help="rounds that count (7)")
    parser.add_argument("--size", type=int, default=60_000, help="bytes of an image (60000)")
    parser.add_argument("--records", type=int, default=2000, help="packets of the log that is pulled (2000)")
    parser.add_argument(
        "--seconds", type=float, default=2.0, help="seconds counted in a state of a stall (2)"
    )
    parser.add_argument("--folder", type=Path, default=None, help="where the stores go (a temporary folder)")
    parser.add_argument(
        "--out", type=Path, default=Path("out/benchmarks"), help="for JSON and PNG (out/benchmarks)"
    )
    parser.add_argument("--json", action="store_true", help="print exactly one JSON object")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.set_defaults(command=_run)
    return run_command(parser, argv)


def _run(arguments: argparse.Namespace) -> int:
    parts = arguments.parts.split(",")
    if not set(parts) <= set(PARTS):
        raise UsageError(f"--parts {arguments.parts}: expected some of {','.join(PARTS)}")
    if arguments.frames < arguments.devices or min(arguments.devices, arguments.rounds) < 1:
        raise UsageError("--devices and --rounds must be at least 1, --frames at least the number of devices")
    report: dict[str, Any] = {"image_bytes": arguments.size}
    with tempfile.TemporaryDirectory(prefix="transport-", dir=arguments.folder) as name:
        folder, quiet = Path(name), arguments.json
        if "uploads" in parts:
            report["uploads"] = measure_uploads(
                folder / "uploads", frames=arguments.frames, devices=arguments.devices,
                rounds=arguments.rounds, size=arguments.size, quiet=quiet,
            )  # fmt: skip
        if "stall" in parts:
            found = measure_stall(
                folder / "stall", devices=arguments.devices, rounds=arguments.rounds,
                seconds=arguments.seconds, size=arguments.size, records=arguments.records, quiet=quiet,
            )  # fmt: skip
            report["stall"] = stall_report(found)
        if "downlink" in parts:
            report["downlink"] = measure_downlink(
                folder / "downlink", records=arguments.records, rounds=arguments.rounds, quiet=quiet
            )
        if "edge" in parts:
            report["edge"] = measure_edges(folder / "edge", size=arguments.size, frames=arguments.frames // 2)
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "transport.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    plot_transport(report, arguments.out / "transport.png")
    if arguments.json:
        print_json(report)
    else:
        sys.stdout.write(text(report))
    return 0


def text(report: dict[str, Any]) -> str:
    """The report's figures as lines."""
    lines = []
    if "uploads" in report:
        found = report["uploads"]
        for name, way in found["ways"].items():
            lines.append(f"{name:12} {way['per_s']:8,.0f} frames/s {way['mb_per_s']:8.1f} MB/s")
        cpu_us = 1e6 * found["fog_cpu_s_a_frame"]
        lines.append(
            f"the fog reaches {found['share']:.2f} of the slower baseline, "
            f"{found['frames_a_commit']:.0f} frames a commit, {cpu_us:.0f} CPU us a frame"
        )
    if "stall" in report:
        found = report["stall"]
        for state, rate in found["uploads_per_s"].items():
            records = found["records_per_s"][state]
            lines.append(f"others while one is {state:8} {rate:8,.0f} frames/s {records:8,.0f} records/s")
    for row in report.get("downlink", ()):
        lines.append(
            f"{row['packet_bytes']:6} bytes to {row['edges']} edges {row['per_s']:8,.0f} records/s "
            f"{row['mb_per_s']:8.1f} MB/s"
        )
    for row in report.get("edge", ()):
        lines.append(f"{row['edges']} edge daemons {row['per_s']:8,.0f} frames/s {row['mb_per_s']:8.1f} MB/s")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    raise SystemExit(main())
