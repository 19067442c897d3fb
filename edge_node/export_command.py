"""``edge-node export``: decoded frames as a YOLO folder, or a detector as ONNX or safetensors."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.bitstream import Packet
from common.cli import add_json, make_folder, print_json, progress
from common.errors import DatasetError, PacketError, PacketFormatError, UsageError
from common.frame import Box, content_digest
from edge_node.packet_files import find_packets, keyframes_beside, read_packet
from edge_node.packet_pixels import PacketPixels
from edge_node.yolo_folder import SPLITS, YoloFolder, label_text

__all__ = ["add_parser", "export_frames"]


@dataclass(frozen=True, slots=True)
class _Labelled:
    """What an export needs to know of a packet before it is decoded."""

    file: Path
    digest: str
    split: str
    width: int
    height: int
    boxes: tuple[Box, ...]


def add_parser(subparsers: Any) -> None:
    """Add ``export`` to the edge node's commands."""
    parser = subparsers.add_parser(
        "export",
        help="decoded frames as a YOLO folder, or a detector as ONNX or safetensors",
        description="Write packets as a YOLO folder of decoded frames, or weights as ONNX or safetensors.",
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("path", metavar="PATH", nargs="?", help="one .rinr packet or a folder of them")
    what.add_argument(
        "--onnx", metavar="WEIGHTS", type=Path, help="write a detector (.safetensors, .pt) as an ONNX file"
    )
    what.add_argument(
        "--safetensors", metavar="WEIGHTS", type=Path, help="write an Ultralytics .pt file as safetensors"
    )
    parser.add_argument("--out", required=True, metavar="OUT", help="folder of frames, or file of a detector")
    frames = parser.add_argument_group("frames")
    frames.add_argument("--image", choices=("png", "jpg"), default="png", help="image format (default: png)")
    frames.add_argument("--quality", metavar="N", type=int, help="of JPEG, 1 to 100 (default: 95)")
    frames.add_argument("--classes", metavar="A,B", help="ordered class names; default: as they appear")
    frames.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    detector = parser.add_argument_group("detector")
    detector.add_argument(
        "--imgsz", metavar="N", type=int, help="side of the ONNX input; default: that of the training"
    )
    detector.add_argument(
        "--half", action="store_true", help="safetensors in 16 instead of 32 bit floats: half the bytes"
    )
    add_json(parser)
    parser.set_defaults(command=_export)


def _export(arguments: argparse.Namespace) -> int:
    if arguments.path is None:
        return _export_detector(arguments)
    if arguments.imgsz is not None or arguments.half:
        raise UsageError("--imgsz and --half are for detectors; frames are written at their coded size")
    if arguments.quality is not None and (arguments.image != "jpg" or not 1 <= arguments.quality <= 100):
        raise UsageError("--quality is a number from 1 to 100 and goes with --image jpg")
    classes = [name.strip() for name in arguments.classes.split(",")] if arguments.classes else None
    if classes is not None and len(set(classes)) < len(classes):
        raise UsageError(f"--classes lists a name twice: {arguments.classes}")
    quality = (arguments.quality or 95) if arguments.image == "jpg" else None
    report, damaged = export_frames(
        arguments.path,
        arguments.out,
        quality=quality,
        classes=classes,
        device=arguments.device,
        quiet=arguments.json,
    )
    if report["unlabelled"]:
        _note(f"left out {report['unlabelled']} frames without labels, which YOLO would take for empty ones")
    if report["others"]:
        _note(f"{arguments.out} also holds {report['others']} frames of packets not in {arguments.path}")
    if not report["val"]:
        _note("no frame is marked validation, so images/val is empty; put frames there before training")
    if arguments.json:
        print_json(report)
    else:
        sys.stdout.write(
            f"{report['train']} frames to train on and {report['val']} to validate with, "
            f"{report['boxes']} boxes, {report['bytes']:,} bytes of images -> {arguments.out}/data.yaml\n"
        )
    if damaged:
        raise PacketFormatError(f"{len(damaged)} packets were passed over, the first because {damaged[0]}")
    return 0


def export_frames(
    path: str | Path,
    out: str | Path,
    *,
    quality: int | None = None,
    classes: Sequence[str] | None = None,
    device: str = "auto",
    quiet: bool = True,
) -> tuple[dict[str, Any], list[str]]:
    """Write the labelled frames of packets as a YOLO folder; a repetition decodes only what is missing.

    Args:
        path: A packet, or a folder of them.
        out: The folder; frames that are marked validation come into its ``val``.
        quality: Of JPEG, 1 to 100; None: PNG.
        classes: Ordered class names; None: those of the boxes, in order of appearance.
        device: Where to decode.
        quiet: No progress bar.

    Returns:
        The JSON object of ``edge-node export``, and a sentence for each packet that was passed over.

    Raises:
        DatasetError: There is no packet, or a box is of a class that ``classes`` lacks.
        UsageError: ``out`` is a file, or holds an export with other options, or other frames whose labels are
            numbered by other classes.
    """
    from common.images import encode_jpeg, encode_png
    from common.inr.decode import resolve_device

    begin = time.perf_counter()
    place = resolve_device(device)
    files = find_packets(path)
    damaged: list[str] = []
    found = dict(_labels(files, damaged, quiet=quiet))
    known = [label for label in found.values() if label is not None]
    unlabelled = [file for file, label in found.items() if label is None]
    names = list(dict.fromkeys(box.name for label in known for box in label.boxes))
    for name in names if classes is not None else ():
        if name not in (classes or ()):
            raise DatasetError(f"{path} has boxes of the class {name!r}, which --classes lacks; add it")
    ordered = names if classes is None else list(classes)
    suffix = "png" if quality is None else "jpg"
    folder = YoloFolder(make_folder(out), {"image": suffix, "quality": quality})
    by_file = {label.file: label for label in known}
    others = folder.keep_only(
        {f"{x.split}/{x.file.stem}.{suffix}" for x in known}, {f"{file.stem}.{suffix}" for file in unlabelled}
    )
    before = folder.classes or []
    if others and ordered[: len(before)] != before:
        folder.close()
        raise UsageError(
            f"{out} also holds {len(others)} frames of other packets, labelled by the classes "
            f"{','.join(before)}; give --classes a list that begins so, or name another --out"
        )
    missing = [x.file for x in known if not folder.has(x.split, f"{x.file.stem}.{suffix}", x.digest)]
    pixels = PacketPixels(keyframes_beside(path), place)
    try:
        decoded = pixels.decode(progress(missing, total=len(missing), title="exporting", quiet=quiet))
        for file, _, image in decoded:
            rgb = image.permute(1, 2, 0).cpu().numpy()
            data = encode_png(rgb) if quality is None else encode_jpeg(rgb, quality)
            folder.add(by_file[file].split, f"{file.stem}.{suffix}", by_file[file].digest, data)
        damaged += pixels.damaged
        written = [x for x in known if folder.has(x.split, f"{x.file.stem}.{suffix}", x.digest)]
        boxes = 0
        for label in written:
            text = label_text(label.boxes, ordered, label.width, label.height)
            boxes += text.count("\n")
            folder.label(label.split, f"{label.file.stem}.{suffix}", text)
        size = folder.finish(ordered or ["object"])
    finally:
        folder.close()
    report = {
        "frames": len(written),
        **{split: sum(label.split == split for label in written) for split in SPLITS},
        "boxes": boxes,
        "classes": ordered,
        "unlabelled": len(unlabelled),
        "others": len(others),
        "resumed": len(known) - len(missing),
        "bytes": size,
        "seconds": time.perf_counter() - begin,
    }
    return report, damaged


def _labels(
    files: Sequence[Path], damaged: list[str], *, quiet: bool
) -> Iterator[tuple[Path, _Labelled | None]]:
    """Packets and what they are about; None for an unlabelled one."""
    for file in progress(files, total=len(files), title="reading packets", quiet=quiet):
        try:
            packet: Packet = read_packet(file)
            digest = content_digest(file.read_bytes()).hex()
        except (PacketError, OSError) as error:
            damaged.append(str(error))
            continue
        split = SPLITS[packet.validation]
        known = _Labelled(file, digest, split, packet.width, packet.height, packet.boxes)
        yield file, known if packet.labelled else None


def _export_detector(arguments: argparse.Namespace) -> int:
    from common.learning.detector import read_detector_file
    from common.learning.onnx_export import export_onnx
    from common.learning.weights import write_weights

    begin = time.perf_counter()
    out = Path(arguments.out)
    wanted = ".onnx" if arguments.onnx else ".safetensors"
    if out.suffix != wanted:
        raise UsageError(f"--out {out} is to be a {wanted} file; give it that ending")
    make_folder(out.parent)
    if arguments.onnx:
        if arguments.half:
            raise UsageError("--half is for --safetensors; the ONNX file has 32 bit floats")
        weights = read_detector_file(arguments.onnx)
        imgsz = export_onnx(weights, out, arguments.imgsz)
    else:
        weights = read_detector_file(arguments.safetensors)
        imgsz = weights.imgsz
        write_weights(out, weights, half=arguments.half)
    report = {
        "model": weights.model,
        "classes": list(weights.classes),
        "imgsz": imgsz,
        "bytes": out.stat().st_size,
        "seconds": time.perf_counter() - begin,
    }
    if arguments.json:
        print_json(report)
    else:
        sys.stdout.write(
            f"{report['model']} with {len(weights.classes)} classes, images of {imgsz} pixels -> {out} "
            f"({report['bytes']:,} bytes)\n"
        )
    return 0


def _note(sentence: str) -> None:
    sys.stderr.write(f"edge-node: {sentence}\n")
