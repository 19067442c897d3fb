"""``edge-node decode``: packet files to PNG pictures."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import Any

from common.cli import add_json, make_folder, print_json, progress
from common.errors import DatasetError, PacketFormatError, UsageError
from edge_node.packet_files import find_packets, keyframes_beside
from edge_node.packet_pixels import PacketPixels

__all__ = ["add_parser", "decode_files"]

MAX_SIDE = 8192
"""Largest output width or height, pixels."""


def add_parser(subparsers: Any) -> None:
    """Add ``decode`` to the edge node's commands."""
    parser = subparsers.add_parser(
        "decode", help="decode packets to PNG", description="Decode packets to PNG pictures."
    )
    parser.add_argument("path", metavar="PATH", help="one .rinr packet or a folder of them")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder of the pictures")
    parser.add_argument("--size", metavar="HxW", help="output height x width (default: the coded size)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    add_json(parser)
    parser.set_defaults(command=_decode)


def _decode(arguments: argparse.Namespace) -> int:
    size = _size(arguments.size) if arguments.size else None
    report, damaged = decode_files(
        arguments.path, arguments.out, size, device=arguments.device, quiet=arguments.json
    )
    if arguments.json:
        print_json(report)
    else:
        sys.stdout.write(
            f"{report['frames']} frames -> {arguments.out}, "
            f"decoded at {report['frames_per_second']:.1f} frames a second\n"
        )
    if damaged:
        raise PacketFormatError(f"{len(damaged)} packets were passed over, the first because {damaged[0]}")
    return 0


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([0-9]+)x([0-9]+)", text)
    size = (int(match[1]), int(match[2])) if match else (0, 0)
    if not all(1 <= side <= MAX_SIDE for side in size):
        raise UsageError(f"--size {text!r} is not HEIGHTxWIDTH in pixels from 1 to {MAX_SIDE}, like 360x640")
    return size


def decode_files(
    path: str | Path,
    out: str | Path,
    size: tuple[int, int] | None = None,
    *,
    device: str = "auto",
    quiet: bool = True,
) -> tuple[dict[str, Any], list[str]]:
    """Decode a packet, or every packet of a folder, to ``out/<same stem>.png``.

    Returns:
        The JSON object of ``edge-node decode``, and a sentence for each packet that is passed over because it
        is damaged or its keyframe is not in the folder.
        ``seconds`` and ``frames_per_second`` are of decoding alone, from packets in memory to RGB on the
        device; reading packets and writing PNG are not in them.
    """
    from common.images import encode_png
    from common.inr.decode import resolve_device

    pixels = PacketPixels(keyframes_beside(path), resolve_device(device), size)
    files = find_packets(path)
    folder = make_folder(out)
    done = 0
    for file, _, image in pixels.decode(progress(files, total=len(files), title="decoding", quiet=quiet)):
        target = folder / f"{file.stem}.png"
        try:
            target.write_bytes(encode_png(image.permute(1, 2, 0).cpu().numpy()))
        except OSError as error:
            raise DatasetError(f"cannot write {target}: {error.strerror or error}") from error
        done += 1
    report = {
        "frames": done,
        "seconds": pixels.seconds,
        "frames_per_second": done / max(pixels.seconds, 1e-9),
    }
    return report, pixels.damaged
