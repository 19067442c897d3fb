"""``fog-node encode``: frames of any source to packet files, offline."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from common.cli import add_json, make_folder, print_json, progress
from common.config import load_settings
from common.errors import DatasetError, EncodeError, UsageError
from common.frame import Frame, content_digest
from fog_node.encoders.encoder_settings import PROFILES, EncoderSettings

if TYPE_CHECKING:
    import torch

    from common.bitstream import Packet
    from fog_node.encoders.encoder import FrameEncoder

__all__ = ["add_parser", "encode_source"]

PACKET_SUFFIX = ".rinr"
OPTIONS = {
    "profile": "--profile",
    "background_psnr": "--background-psnr",
    "object_psnr": "--object-psnr",
    "width": "--width",
    "time_budget_s": "--time-budget",
}
"""The option that sets each setting."""
TEMPORARY_SUFFIX = ".partial"
"""Of a packet being written; a leftover of a killed run is removed by the next."""


def add_parser(subparsers: Any) -> None:
    """Add ``encode`` to the fog node's commands."""
    parser = subparsers.add_parser(
        "encode", help="encode frames to packet files", description="Encode frames to packet files."
    )
    parser.add_argument("source", metavar="SRC", help="sequence, data set or image folder, CSV or video")
    parser.add_argument(
        "--out", required=True, metavar="DIR", help="folder of the packets; a stopped run resumes there"
    )
    parser.add_argument("--format", help="layout of SRC; found by looking when not named")
    parser.add_argument("--config", metavar="YAML", help="encoder settings, as in configs/encoder.yaml")
    parser.add_argument("--profile", choices=PROFILES, help="representation (default: pyramid)")
    parser.add_argument("--background-psnr", type=float, metavar="DB", help="target outside the boxes")
    parser.add_argument("--object-psnr", type=float, metavar="DB", help="target inside each box")
    parser.add_argument("--width", type=int, metavar="PX", help="coded width (default: 640)")
    parser.add_argument("--time-budget", type=float, metavar="S", help="seconds a frame at most, on average")
    parser.add_argument(
        "--stream", action="store_true", help="frames of one camera, in order: let them share keyframes"
    )
    parser.add_argument("--max-frames", type=int, metavar="N", help="stop after so many frames")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    parser.add_argument("--threads", type=int, default=0, metavar="N", help="CPU threads (0: all cores)")
    add_json(parser)
    parser.set_defaults(command=_encode)


def _encode(arguments: argparse.Namespace) -> int:
    if arguments.max_frames is not None and arguments.max_frames < 1:
        raise UsageError(f"--max-frames is {arguments.max_frames}; it must be at least 1")
    if arguments.threads < 0:
        raise UsageError(f"--threads is {arguments.threads}; it must be at least 0")
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
    named = {key: getattr(arguments, option[2:].replace("-", "_")) for key, option in OPTIONS.items()}
    changed = {key: value for key, value in named.items() if value is not None}
    if arguments.stream:
        changed["stream"] = {**base.stream.model_dump(), "mode": "always"}
    try:
        settings = EncoderSettings.model_validate({**base.model_dump(), **changed})
    except ValidationError as error:
        first = error.errors()[0]
        if not first["loc"]:
            raise UsageError(first["msg"].removeprefix("Value error, ")) from error
        option = OPTIONS.get(str(first["loc"][0]), str(first["loc"][0]))
        raise UsageError(f"{option} is {first['input']}: {first['msg'].lower()}") from error
    if arguments.stream and settings.profile != "pyramid":
        raise UsageError(f"--stream works with profile pyramid only, not {settings.profile}; leave it out")
    return settings


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

    A packet that is there is kept when it holds the same frame and labels at the same size and is on target,
    so a stopped run resumes. A frame that cannot be encoded does not keep the others from being written.

    Returns:
        The JSON object of ``fog-node encode``, and a line for each frame that is off target, with its dB.

    Raises:
        DatasetError: The source holds no frame, or two frames have one name.
        EncodeError: Frames cannot be encoded, or a file in ``out`` is in the way of a packet.
        UsageError: ``out`` cannot be made, or ``layout`` is unknown.
    """
    from common.bitstream.keyframe_files import KeyframeFiles
    from common.datasets import FORMATS, open_source
    from fog_node.encoders.encoder import FrameEncoder
    from fog_node.encoders.packet_quality import QualityTally

    begin = time.monotonic()
    if layout is not None and layout not in FORMATS:
        raise UsageError(f"unknown format {layout!r}; known: {', '.join(FORMATS)}")
    frames = open_source(source, layout, max_frames=max_frames)
    if frames.format == "class-folders":
        # Each frame's one box is the label of the image.
        settings = settings.model_copy(update={"whole_frame": "label"})
    folder = make_folder(out)
    for leftover in folder.glob(f"*{PACKET_SUFFIX}{TEMPORARY_SUFFIX}"):
        leftover.unlink()
    encoder = FrameEncoder(settings, device, threads)
    keyframes = KeyframeFiles(folder)
    tally = QualityTally(settings, encoder.device, keyframes)
    replaced: set[bytes] = set()
    names: set[str] = set()
    failed: dict[str, str] = {}
    shown = progress(frames, total=frames.length, title="encoding", quiet=quiet)
    for batch in _batches(shown, settings.batch_frames):
        for frame in batch:
            if frame.name in names:
                raise DatasetError(
                    f"two frames of {source} are called {frame.name}; encode them from separate sources"
                )
            names.add(frame.name)
        paths = {frame.name: folder / f"{frame.name}{PACKET_SUFFIX}" for frame in batch}
        missing = []
        for frame in batch:
            path = paths[frame.name]
            if _is_done(path, frame, settings, encoder.device, keyframes, replaced):
                continue
            missing.append(frame)
            if path.exists():
                replaced.add(content_digest(path.read_bytes()))
        failed |= _encode_batch(encoder, missing, folder)
        for frame in batch:
            if frame.name not in failed:
                tally.add(frame, paths[frame.name].read_bytes())
    if failed:
        name, reason = next(iter(failed.items()))
        raise EncodeError(
            f"{len(failed)} of {len(names)} frames cannot be encoded; the first, {name}, because {reason}"
        )
    if not names:
        raise DatasetError(f"{source} holds no frame")
    total = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    report = {
        "frames": len(names),
        "objects": tally.objects,
        "bytes_total": total,
        "bytes_per_frame": tally.bytes / len(names),
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


def _is_done(
    path: Path,
    frame: Frame,
    settings: EncoderSettings,
    device: torch.device,
    keyframes: Mapping[bytes, Packet],
    replaced: Collection[bytes],
) -> bool:
    """Whether ``path`` holds this very frame, with these labels, at this size and on target.

    A packet of the frame that was made with other settings or labels, is off target or damaged is replaced,
    and so is one whose keyframe is not there or is among those ``replaced``.

    Raises:
        EncodeError: The file is something else, which is never overwritten.
    """
    from common.bitstream import decode_packet
    from common.bitstream.codec import FORMAT_VERSION, MAGIC
    from common.errors import PacketError
    from common.images import scaled_size
    from fog_node.encoders.encoder import coded_labels
    from fog_node.encoders.packet_quality import on_target, packet_quality

    if not path.exists():
        return False
    data = path.read_bytes()
    if data[: len(MAGIC) + 1] != MAGIC + bytes([FORMAT_VERSION]):
        raise EncodeError(f"{path} is no packet of this version; name an empty folder with --out")
    try:
        packet = decode_packet(data)
    except PacketError:
        return False
    if packet.source_digest != frame.digest:
        raise EncodeError(f"{path} is the packet of another frame; name an empty folder with --out")
    width, height, scale = scaled_size(frame.width, frame.height, settings.width)
    wanted = (settings.profile, width, frame.labelled, frame.validation)
    if (packet.profile, packet.width, packet.labelled, packet.validation) != wanted:
        return False
    if packet.boxes != tuple(coded_labels(frame, scale, width, height)):
        return False
    if packet.keyframe is not None and (packet.keyframe in replaced or packet.keyframe not in keyframes):
        return False
    return on_target(settings, *packet_quality(frame, data, device, keyframes, settings.whole_frame))


def _encode_batch(encoder: FrameEncoder, frames: list[Frame], folder: Path) -> dict[str, str]:
    """Encode and write frames; why each frame failed, by name."""
    from fog_node.encoders.encoder import EncodeFailure

    failed: dict[str, str] = {}
    for frame, result in zip(frames, encoder.encode(frames) if frames else [], strict=True):
        if isinstance(result, EncodeFailure):
            failed[frame.name] = result.reason
            continue
        path = folder / f"{frame.name}{PACKET_SUFFIX}"
        temporary = path.with_name(path.name + TEMPORARY_SUFFIX)
        try:
            temporary.write_bytes(result.packet)
            temporary.replace(path)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            raise EncodeError(f"cannot write {path}: {error.strerror or error}") from error
    return failed


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
