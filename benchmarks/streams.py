"""Bytes a frame of camera streams: packets that share keyframes against stills, and against video codecs.

    python benchmarks/streams.py SEQUENCE... [--frames 48] [--target 28,33] [--out DIR]

A SEQUENCE is any source of frames in order. Its first frames are scaled to 640 pixels wide and encoded twice
by profile pyramid: each by itself (stills), and as frames that may refer to a keyframe (stream). Every frame
must reach the target, measured by decoding its packet with its keyframe. Bytes are those of the packet files:
labels, hashes and all. x264, x265 and SVT-AV1 (PyAV, extra "bench") code whole frames in groups of 16 at the
coarsest quality whose mean background PSNR reaches the target, and at the coarsest that reaches both targets;
their containers are not counted.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from common.bitstream import Packet, Reference, decode_packet
from common.cli import make_folder, print_json, progress, run_command
from common.datasets import open_source
from common.errors import EncodeError, UsageError
from common.frame import Frame, content_digest
from fog_node.encoders.encoder import EncodeFailure, FrameEncoder
from fog_node.encoders.encoder_settings import EncoderSettings
from fog_node.encoders.packet_quality import on_target, packet_quality
from judge.protocol import WIDTH, Target, parse_targets, pixels
from video.codecs import CODECS, available, cheapest
from video.stream_plot import plot_streams


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    return run_command(_parser(), argv)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="streams.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sources", metavar="SEQUENCE", type=Path, nargs="+")
    parser.add_argument("--frames", type=int, default=48, metavar="N", help="of each sequence (default: 48)")
    parser.add_argument("--target", default="28,33", metavar="DB,DB", help="background and object PSNR")
    parser.add_argument("--model", type=Path, metavar="FILE", help="shared model instead of the shipped one")
    parser.add_argument(
        "--peers", default=",".join(CODECS), help="comma-separated; '' measures no video codec"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder of streams.json and streams.png")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="CPU threads")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--json", action="store_true", help="print exactly one JSON object")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.set_defaults(command=_run)
    return parser


def _run(arguments: argparse.Namespace) -> int:
    if arguments.frames < 2:
        raise UsageError(f"--frames is {arguments.frames}; it must be at least 2")
    (target,) = parse_targets([arguments.target])
    peers = [name for name in arguments.peers.split(",") if name]
    unknown = [name for name in peers if name not in CODECS]
    if unknown:
        raise UsageError(f"--peers names {unknown[0]!r}; known: {', '.join(CODECS)}")
    if peers and not available():
        sys.stderr.write(
            'video codecs are left out: PyAV is not installed; run pip install "residual-inr[bench]"\n'
        )
        peers = []
    cv2.setNumThreads(1)
    report: dict[str, Any] = {
        "target": [target.background, target.object],
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
        "model": None if arguments.model is None else arguments.model.name,
        "sequences": {},
    }
    folder = None if arguments.out is None else make_folder(arguments.out)
    for source in arguments.sources:
        frames = list(open_source(source, max_frames=arguments.frames))
        measured: dict[str, Any] = {"frames": len(frames)}
        for name, mode in (("stills", "off"), ("stream", "always")):
            measured[name] = _ours(frames, target, mode, arguments, f"{source.name}, {name}")
        measured |= _theirs(frames, target, peers, quiet=arguments.json)
        report["sequences"][source.name] = measured
        if not arguments.json:
            sys.stdout.write(_lines(source.name, measured))
            sys.stdout.flush()
        if folder is not None:
            (folder / "streams.json").write_text(json.dumps(report, indent=1) + "\n")
            plot_streams(report, folder / "streams.png")
    if arguments.json:
        print_json(report)
    return 0


def _ours(
    frames: Sequence[Frame], target: Target, mode: str, arguments: argparse.Namespace, title: str
) -> dict[str, Any]:
    """Encode frames one after the other; measure each by decoding its packet."""
    settings = EncoderSettings.model_validate(
        {
            "profile": "pyramid",
            "width": WIDTH,
            "background_psnr": target.background,
            "object_psnr": target.object,
            "stream": {"mode": mode},
        }
    )
    encoder = FrameEncoder(settings, arguments.device, arguments.threads, arguments.model)
    packets: dict[bytes, Packet] = {}
    sizes, kinds, backgrounds, objects, reached = [], [], [], [], 0
    begin = time.monotonic()
    for frame in progress(frames, total=len(frames), title=title, quiet=arguments.json):
        (result,) = encoder.encode([frame])
        if isinstance(result, EncodeFailure):
            raise EncodeError(f"frame {frame.name} cannot be encoded: {result.reason}")
        packet = decode_packet(result.packet)
        packets[content_digest(result.packet)] = packet
        background, inside = packet_quality(frame, result.packet, encoder.device, packets)
        sizes.append(len(result.packet))
        kinds.append(_kind(packet))
        backgrounds += [] if background is None else [background]
        objects += inside
        reached += on_target(settings, background, inside)
    return {
        "bytes_per_frame": float(np.mean(sizes)),
        "bytes": sizes,
        "kinds": kinds,
        "shares": {kind: kinds.count(kind) / len(kinds) for kind in sorted(set(kinds))},
        "background_psnr_db": float(np.mean(backgrounds)) if backgrounds else None,
        "object_psnr_db": float(np.mean(objects)) if objects else None,
        "reached_target": reached / len(frames),
        "seconds_per_frame": (time.monotonic() - begin) / len(frames),
    }


def _kind(packet: Packet) -> str:
    """How a frame was sent: as a keyframe (still), or as one kept or moved, perhaps updated."""
    content = packet.background
    if not isinstance(content, Reference):
        return "keyframe"
    moved = content.homography is not None or content.motion is not None
    return ("moved" if moved else "kept") + (", updated" if content.updates else "")


def _theirs(
    frames: Sequence[Frame], target: Target, peers: Sequence[str], *, quiet: bool
) -> dict[str, dict[str, Any]]:
    """Each video codec at the background target alone, and at both."""
    scaled = [pixels(frame) for frame in frames]
    images, regions = [image for image, _ in scaled], [boxes for _, boxes in scaled]
    found = {}
    for name in progress(peers, total=len(peers), title="video codecs", quiet=quiet):
        one = cheapest(name, images, regions, target.background)
        both = cheapest(name, images, regions, target.background, target.object)
        found[name] = {
            "crf": one and one.crf,
            "bytes_per_frame": one and sum(one.bytes) / len(frames),
            "background_psnr_db": one and one.background_psnr_db,
            "object_psnr_db": one and one.object_psnr_db,
            "bytes_per_frame_both_targets": both and sum(both.bytes) / len(frames),
        }
    return {"video": found}


def _lines(name: str, measured: dict[str, Any]) -> str:
    stills, stream = measured["stills"], measured["stream"]
    ours = stream["bytes_per_frame"]
    shares = ", ".join(f"{kind} {share:.0%}" for kind, share in stream["shares"].items())
    lines = [
        f"{name}: stills {stills['bytes_per_frame']:,.0f} bytes a frame, stream {ours:,.0f}: "
        f"{ours / stills['bytes_per_frame']:.2f} of them; on target {stream['reached_target']:.0%} ({shares})"
    ]
    for peer, found in measured["video"].items():
        if found["bytes_per_frame"] is None:
            lines.append(f"  {peer}: does not reach the background target")
            continue
        both = found["bytes_per_frame_both_targets"]
        inside = found["object_psnr_db"]
        lines.append(
            f"  {peer}: {found['bytes_per_frame']:,.0f} bytes at the background target "
            f"({'no boxes' if inside is None else f'objects {inside:.1f} dB'}), "
            f"{'-' if both is None else f'{both:,.0f}'} at both; "
            f"stream / {peer} {ours / found['bytes_per_frame']:.2f}"
            + ("" if both is None else f", {ours / both:.2f} at both")
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
