"""``fog-node encode``: frames of any source to packet files, offline."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from common.cli import add_json, print_json, progress
from common.config import load_settings
from common.errors import DatasetError, EncodeError, UsageError
from common.frame import Frame
from fog_node.encoder_settings import PROFILES, EncoderSettings

if TYPE_CHECKING:
    from fog_node.encoder import FrameEncoder

__all__ = ["add_parser", "encode_source"]

PACKET_SUFFIX = ".rinr"
TEMPORARY_SUFFIX = ".partial"
"""Of a packet being written; a leftover of a killed run is removed by the next."""


def add_parser(subparsers: Any) -> None:
    """Add ``encode`` to the fog node's commands."""
    parser = subparsers.add_parser(
        "encode", help="encode frames to packet files", description="Encode frames to packet files."
    )
    parser.add_argument("source", metavar="SRC", help="sequence, data set or image folder, CSV or video")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder of the packets; resumes there")
    parser.add_argument("--format", help="layout of SRC; found by looking when not named")
    parser.add_argument("--config", metavar="YAML", help="encoder settings, as in configs/encoder.yaml")
    parser.add_argument("--profile", choices=PROFILES, help="representation (default: siren)")
    parser.add_argument("--background-psnr", type=float, metavar="DB", help="target outside the boxes")
    parser.add_argument("--object-psnr", type=float, metavar="DB", help="target inside each box")
    parser.add_argument("--width", type=int, metavar="PX", help="coded width (default: 640)")
    parser.add_argument("--time-budget", type=float, metavar="S", help="seconds a frame at most, on average")
    parser.add_argument("--max-frames", type=int, metavar="N", help="stop after so many frames")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    parser.add_argument("--threads", type=int, default=0, metavar="N", help="CPU threads (0: all cores)")
    add_json(parser)
    parser.set_defaults(command=_encode)


def _encode(arguments: argparse.Namespace) -> int:
    if arguments.max_frames is not None and arguments.max_frames < 1:
        raise UsageError(f"--max-frames is {arguments.max_frames}; it must be at least 1")
    report, missed = encode_source(
        arguments.source,
        arguments.out,
        _settings(arguments),
        layout=arguments.format,
        max_frames=arguments.max_frames,
        device=arguments.device,
        threads=arguments.threads,
        quiet=arguments.json,
    )
    for line in missed:
        sys.stderr.write(f"off target: {line}\n")
    if arguments.json:
        print_json(report)
    else:
        sys.stdout.write(_summary(report, arguments.out))
    return 0


def _settings(arguments: argparse.Namespace) -> EncoderSettings:
    """Settings of the file, changed by what the command line names."""
    base = load_settings(arguments.config, EncoderSettings) if arguments.config else EncoderSettings()
    named = {
        "profile": arguments.profile,
        "background_psnr": arguments.background_psnr,
        "object_psnr": arguments.object_psnr,
        "width": arguments.width,
        "time_budget_s": arguments.time_budget,
    }
    changed = {key: value for key, value in named.items() if value is not None}
    try:
        return EncoderSettings.model_validate({**base.model_dump(), **changed})
    except ValueError as error:
        raise UsageError(f"the encoder cannot use these options: {_first_line(error)}") from error


def _first_line(error: ValueError) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[1:3])


def encode_source(
    source: str | Path,
    out: str | Path,
    settings: EncoderSettings,
    *,
    layout: str | None = None,
    max_frames: int | None = None,
    device: str = "auto",
    threads: int = 0,
    quiet: bool = True,
) -> tuple[dict[str, Any], list[str]]:
    """Encode every frame of ``source`` that has no packet in ``out`` yet; measure all by decoding the files.

    A packet that is there is kept when it holds the same frame at the same size, so a stopped run resumes.

    Returns:
        The JSON object of ``fog-node encode``, and a line for each frame that is off target, with its dB.

    Raises:
        DatasetError: The source holds no frame, or two frames have one name.
        EncodeError: A frame cannot be encoded, or a file in ``out`` is another frame's packet.
    """
    from common.datasets import open_source
    from fog_node.encoder import FrameEncoder
    from fog_node.packet_quality import QualityTally

    begin = time.monotonic()
    frames = open_source(source, layout, max_frames=max_frames)
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    for leftover in folder.glob(f"*{PACKET_SUFFIX}{TEMPORARY_SUFFIX}"):
        leftover.unlink()
    encoder = FrameEncoder(settings, device, threads)
    tally = QualityTally(settings, encoder.device)
    names: set[str] = set()
    shown = progress(frames, total=frames.length, title="encoding", quiet=quiet)
    for batch in _batches(shown, settings.batch_frames):
        for frame in batch:
            if frame.name in names:
                raise DatasetError(
                    f"two frames of {source} are called {frame.name}; encode them from separate sources"
                )
            names.add(frame.name)
        missing = [f for f in batch if not _is_done(folder / f"{f.name}{PACKET_SUFFIX}", f, settings)]
        _encode_batch(encoder, missing, folder)
        for frame in batch:
            tally.add(frame, (folder / f"{frame.name}{PACKET_SUFFIX}").read_bytes())
    if not names:
        raise DatasetError(f"{source} holds no frame")
    total = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    report = {
        "frames": len(names),
        "objects": tally.objects,
        "bytes_total": total,
        "bytes_per_frame": total / len(names),
        "background_psnr_db": tally.background_psnr_db,
        "object_psnr_db": tally.object_psnr_db,
        "seconds": time.monotonic() - begin,
        "profile": settings.profile,
        "device": str(encoder.device),
        "reached_target": tally.reached / len(names),
    }
    return report, tally.missed


def _batches(frames: Iterable[Frame], size: int) -> Iterator[list[Frame]]:
    iterator = iter(frames)
    while batch := list(islice(iterator, size)):
        yield batch


def _is_done(path: Path, frame: Frame, settings: EncoderSettings) -> bool:
    """Whether ``path`` already holds this frame's packet, written with these targets in view."""
    from common.bitstream import decode_packet
    from common.errors import PacketError

    if not path.exists():
        return False
    try:
        packet = decode_packet(path.read_bytes())
    except PacketError:
        return False  # cut off while it was written by another program, or damaged: written again
    if packet.source_digest != frame.digest or packet.labelled != frame.labelled:
        raise EncodeError(f"{path} is the packet of another frame; name an empty folder with --out")
    return packet.width == settings.width and packet.profile == settings.profile


def _encode_batch(encoder: FrameEncoder, frames: list[Frame], folder: Path) -> None:
    from fog_node.encoder import EncodeFailure

    if not frames:
        return
    for frame, result in zip(frames, encoder.encode(frames), strict=True):
        if isinstance(result, EncodeFailure):
            raise EncodeError(f"frame {frame.name} cannot be encoded: {result.reason}")
        path = folder / f"{frame.name}{PACKET_SUFFIX}"
        temporary = path.with_name(path.name + TEMPORARY_SUFFIX)
        try:
            temporary.write_bytes(result.packet)
            temporary.replace(path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise EncodeError(f"cannot write {path}: {error.strerror or error}") from error


def _summary(report: dict[str, Any], out: str) -> str:
    """The report for a person."""
    objects = report["object_psnr_db"]
    lines = [
        f"{report['frames']} frames, {report['objects']} objects -> {out}",
        f"{report['bytes_total']:,} bytes, {report['bytes_per_frame']:,.0f} a frame",
        f"background {_db(report['background_psnr_db'])}, objects {_db(objects)}",
        f"on target: {report['reached_target']:.0%} of the frames",
        f"{report['seconds']:.1f} s on {report['device']}, "
        f"{report['seconds'] / report['frames']:.2f} s a frame",
    ]
    return "\n".join(lines) + "\n"


def _db(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} dB (mean)"
