"""``edge-node decode``: packet files to PNG pictures."""

from __future__ import annotations

import argparse
import re
import sys
import time
from pathlib import Path
from typing import Any

from common.cli import add_json, print_json, progress
from common.errors import DatasetError, UsageError
from edge_node.packet_files import find_packets, read_packet

__all__ = ["add_parser", "decode_files"]

BATCH = 16
"""Packets decoded together: enough to fill groups, and at most 16 pictures in memory."""
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
    report = decode_files(arguments.path, arguments.out, size, device=arguments.device, quiet=arguments.json)
    if arguments.json:
        print_json(report)
    else:
        sys.stdout.write(
            f"{report['frames']} frames -> {arguments.out}, "
            f"decoded at {report['frames_per_second']:.1f} frames a second\n"
        )
    return 0


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d+)x(\d+)", text)
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
) -> dict[str, Any]:
    """Decode a packet, or every packet of a folder, to ``out/<same stem>.png``.

    Returns:
        The JSON object of ``edge-node decode``. ``seconds`` and ``frames_per_second`` are of decoding alone,
        from packets in memory to 8-bit RGB on the device; reading packets and writing PNG are not in them.
    """
    import torch

    from common.images import encode_png
    from common.inr.compose import to_bytes
    from common.inr.decode import compose_packets, resolve_device

    place = resolve_device(device)
    files = find_packets(path)
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    seconds = 0.0
    batches = [files[at : at + BATCH] for at in range(0, len(files), BATCH)]
    for batch in progress(batches, total=len(batches), title="decoding", quiet=quiet):
        packets = [read_packet(file) for file in batch]
        sizes = {(p.height, p.width) for p in packets} if size is None else {size}
        for wanted in sorted(sizes):
            chosen = [i for i, p in enumerate(packets) if size is not None or (p.height, p.width) == wanted]
            begin = time.perf_counter()
            pixels = to_bytes(compose_packets([packets[i] for i in chosen], wanted, device=place))
            if place.type == "cuda":
                torch.cuda.synchronize(place)
            seconds += time.perf_counter() - begin
            images = pixels.permute(0, 2, 3, 1).cpu().numpy()
            for index, image in zip(chosen, images, strict=True):
                target = folder / f"{batch[index].stem}.png"
                try:
                    target.write_bytes(encode_png(image))
                except OSError as error:
                    raise DatasetError(f"cannot write {target}: {error.strerror or error}") from error
    return {"frames": len(files), "seconds": seconds, "frames_per_second": len(files) / max(seconds, 1e-9)}
