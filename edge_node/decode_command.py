"""``edge-node decode``: packet files to PNG pictures."""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.bitstream import Packet
from common.bitstream.keyframe_files import KeyframeFiles
from common.cli import add_json, make_folder, print_json, progress
from common.errors import DatasetError, ImageError, PacketError, PacketFormatError, UsageError
from edge_node.packet_files import find_packets, keyframes_beside, read_packet

if TYPE_CHECKING:
    import torch
    from torch import Tensor

__all__ = ["add_parser", "decode_files"]

BATCH = 16
"""Packets decoded together at most: enough to fill groups."""
BATCH_PIXELS = 8 << 20
"""Output pixels decoded together, unless one picture alone has more; each takes about 20 bytes."""
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

    place = resolve_device(device)
    files = find_packets(path)
    keyframes = keyframes_beside(path)
    folder = make_folder(out)
    seconds, done = 0.0, 0
    damaged: list[str] = []
    shown = progress(files, total=len(files), title="decoding", quiet=quiet)
    for batch in _batches(shown, size, keyframes, damaged):
        begin = time.perf_counter()
        decoded = _decoded(batch, size, place, keyframes, damaged)
        seconds += time.perf_counter() - begin
        done += len(decoded)
        for file, image in decoded:
            target = folder / f"{file.stem}.png"
            try:
                target.write_bytes(encode_png(image.permute(1, 2, 0).cpu().numpy()))
            except OSError as error:
                raise DatasetError(f"cannot write {target}: {error.strerror or error}") from error
    report = {"frames": done, "seconds": seconds, "frames_per_second": done / max(seconds, 1e-9)}
    return report, damaged


def _decoded(
    batch: Sequence[tuple[Path, Packet]],
    size: tuple[int, int] | None,
    device: torch.device,
    keyframes: KeyframeFiles,
    damaged: list[str],
) -> list[tuple[Path, Tensor]]:
    """Pixels (3, height, width) uint8 by file; packets whose contents are damaged are set aside."""
    import torch

    from common.inr.compose import to_bytes
    from common.inr.decode import compose_packets

    shape = size or (batch[0][1].height, batch[0][1].width)
    try:
        packets = [packet for _, packet in batch]
        pixels = to_bytes(compose_packets(packets, shape, device=device, keyframes=keyframes))
        if device.type == "cuda":
            torch.cuda.synchronize(device)
    except (PacketError, ImageError) as error:
        if len(batch) == 1:
            damaged.append(f"{batch[0][0]}: {error}")
            return []
        # One by one, to find which.
        return [found for item in batch for found in _decoded([item], size, device, keyframes, damaged)]
    return [(file, image) for (file, _), image in zip(batch, pixels, strict=True)]


def _batches(
    files: Iterable[Path], size: tuple[int, int] | None, keyframes: KeyframeFiles, damaged: list[str]
) -> Iterator[list[tuple[Path, Packet]]]:
    """Neighbouring packets of one output size, bounded in number and pixels; damaged ones are set aside."""
    batch: list[tuple[Path, Packet]] = []
    for file in files:
        try:
            packet = read_packet(file)
            keyframes.require(file, packet)
        except PacketError as error:
            damaged.append(str(error))
            continue
        shape = size or (packet.height, packet.width)
        full = (len(batch) + 1) * shape[0] * shape[1] > BATCH_PIXELS or len(batch) == BATCH
        if batch and (full or (not size and shape != (batch[0][1].height, batch[0][1].width))):
            yield batch
            batch = []
        batch.append((file, packet))
    if batch:
        yield batch
