"""What is fuzzed: each target takes bytes and may raise this system's own errors, and nothing else."""

from __future__ import annotations

import json
import struct
import tempfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from common.bitstream import ImageFile, Packet, Pyramid, decode_packet
from common.bitstream.image_files import image_pixels
from common.config import parse_settings
from common.datasets import open_source
from common.errors import ResidualInrError
from common.images import ImageLimits, decode_image
from common.pyramid.coder import decode_grids
from common.pyramid.model import find_model
from common.store.rows import keyframe_of, source_frame
from common.wire.allow_list import AllowList
from common.wire.framing import decode
from common.wire.messages import RecordMessage, Upload
from edge_node.settings import EdgeSettings
from fog_node.settings import FogSettings
from fog_node.upload_check import check_upload

if TYPE_CHECKING:
    from torch import nn

__all__ = ["MEBIBYTE", "TARGETS", "Target"]

MEBIBYTE = 1 << 20
LIMITS = ImageLimits(max_pixels=1 << 18, max_bytes=1 << 20)
FOG = FogSettings()
DEVICE = "d" * 40
LAYOUTS = {
    "sequence": ("otb/groundtruth_rect.txt", "otb"),
    "voc": ("voc/annotations/000.xml", "voc"),
    "label": ("yolo/labels/train/000.txt", "yolo/data.yaml"),
    "list": ("lists/list.csv", "lists/list.csv"),
    "data": ("yolo/data.yaml", "yolo/data.yaml"),
}
"""Layout -> the file that is fuzzed, and the source that is opened."""


@dataclass(frozen=True)
class Target:
    """One parser.

    Attributes:
        run: Gives it one input.
        bound: Bytes that it may allocate for an input, Python's and numpy's.
        share: Its part of all inputs.
        prepare: Imports what takes long, before a process for a piece is forked; that counts as there before.
    """

    run: Callable[[bytes], None]
    bound: int
    share: float
    prepare: Callable[[], object] = lambda: None


def message(data: bytes) -> None:
    """Length of the header, header, payload; what is behind the payload's first megabyte is a third frame."""
    frames = [data]
    if len(data) >= 4:
        (length,) = struct.unpack_from("<I", data)
        frames = [data[4 : 4 + length]]
        if len(data) > 4 + length:
            frames.append(data[4 + length :])
    content = decode(frames)
    if isinstance(content, Upload):
        check_upload(content, DEVICE, FOG)
    elif isinstance(content, RecordMessage):
        record = content.to_record()
        keyframe_of(record.meta)
        source_frame(record.meta)


def packet(data: bytes) -> None:
    """A packet whose length and checksum are put right, as someone would who means harm."""
    if len(data) >= 14 and data[0] != 0:
        head = data[:6] + struct.pack("<I", len(data)) + data[10:-4]
        data = head + struct.pack("<I", zlib.crc32(head))
    found: Packet = decode_packet(data)
    for content in (found.background, *(patch.content for patch in found.objects)):
        if found.width * found.height > 4096:
            break
        if isinstance(content, Pyramid):
            model = find_model(content.model)
            decode_grids(content.data, found.height, found.width, model, content.step, False)
        elif isinstance(content, ImageFile):
            image_pixels(content, found.height, found.width)


def settings(data: bytes) -> None:
    """Any of the files that people write."""
    text = data.decode("utf-8", "replace")
    for model in (FogSettings, EdgeSettings):
        try:
            parse_settings(text, model, name="node.yaml")
        except ResidualInrError as error:
            one_sentence(error)
    path = _folder() / "allow.yaml"
    path.unlink(missing_ok=True)
    path.write_bytes(data)
    AllowList(path)


def reader(data: bytes) -> None:
    """A label file of the layout that its first line names, beside three pictures."""
    first, _, content = data.partition(b"\n")
    layout = first.decode("latin-1")
    file, source = LAYOUTS.get(layout, LAYOUTS["sequence"])
    root = _folder()
    (root / file).write_bytes(content)
    if layout == "label":
        (root / source).write_text("path: .\ntrain: images/train\nnames: [cat, dog]\n")
    elif layout == "data":
        (root / LAYOUTS["label"][0]).write_text("0 0.5 0.5 0.25 0.5\n")
    for frame in open_source(root / source, max_frames=4, limits=LIMITS):
        for box in frame.boxes:
            box.region(frame.width, frame.height)


def weights(data: bytes) -> None:
    """Detector weights as they come from the fog, read without and with the detector that is expected.

    Lengths are put right, as someone would who means harm. Torch's memory is not traced: what was read is
    counted here.
    """
    from common.learning.weights import decode_weights

    data = _with_lengths_put_right(data)
    found = decode_weights(data, max_bytes=MEBIBYTE)
    size = sum(tensor.nbytes for tensor in found.state.values())
    if size > 2 * len(data):
        raise AssertionError(f"{len(data)} bytes became {size}")
    detector = small_detector()
    expected = detector.state_dict()
    read = decode_weights(data, expected, max_bytes=MEBIBYTE)
    detector.load_state_dict(dict(read.state))


def small_detector() -> nn.Module:
    """A convolution and its normalization: every type of tensor that a detector has."""
    from torch import nn

    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))


def _with_lengths_put_right(data: bytes) -> bytes:
    """The header's length, and as many bytes of tensors as it promises, if that is below a mebibyte."""
    try:
        header, end = json.JSONDecoder().raw_decode(data[8:].decode("latin-1"))
        last = max(entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__")
        tensors = data[8 + struct.unpack_from("<Q", data)[0] :][:last]
        return struct.pack("<Q", end) + data[8 : 8 + end] + tensors.ljust(min(last, MEBIBYTE), b"\0")
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError, struct.error):
        return data


def image(data: bytes) -> None:
    """A picture of at most 262,144 pixels."""
    decode_image(data, LIMITS)


def one_sentence(error: ResidualInrError) -> None:
    """Whether an error is what a person gets to read.

    Raises:
        AssertionError: It has several lines, or none.
    """
    text = str(error)
    if not text.strip() or "\n" in text or len(text) > 3_000:
        raise AssertionError(f"no single sentence: {text[:300]!r}")


_FOLDERS: list[tempfile.TemporaryDirectory[str]] = []


def _folder() -> Path:
    """A folder of this process with the pictures of each layout, in memory where there is such a disk."""
    if not _FOLDERS:
        memory = Path("/dev/shm")
        place = memory if memory.is_dir() else None
        _FOLDERS.append(tempfile.TemporaryDirectory(prefix="residual-inr-fuzz-", dir=place))
        root = Path(_FOLDERS[0].name)
        picture = (CORPUS / "image" / "photo.jpg").read_bytes()
        for folder in ("otb/img", "voc/img", "yolo/images/train", "yolo/images/val", "lists/img"):
            (root / folder).mkdir(parents=True)
            for name in ("000", "001", "002"):
                (root / folder / f"{name}.jpg").write_bytes(picture)
        for folder in ("voc/annotations", "yolo/labels/train", "yolo/labels/val"):
            (root / folder).mkdir(parents=True)
    return Path(_FOLDERS[0].name)


def forget_folder() -> None:
    """Make a folder of its own in a forked process, without removing its parent's."""
    for folder in _FOLDERS:
        folder._finalizer.detach()
    _FOLDERS.clear()


def remove_folder() -> None:
    """Remove the folder of this process."""
    while _FOLDERS:
        _FOLDERS.pop().cleanup()


CORPUS = Path(__file__).resolve().parents[2] / "tests" / "fuzz" / "corpus"

TARGETS: Mapping[str, Target] = {
    "message": Target(message, 32 * MEBIBYTE, 0.35),
    "packet": Target(packet, 32 * MEBIBYTE, 0.30),
    "weights": Target(weights, 16 * MEBIBYTE, 0.10, small_detector),
    "image": Target(image, 16 * MEBIBYTE, 0.15),
    "reader": Target(reader, 32 * MEBIBYTE, 0.07),
    "settings": Target(settings, 32 * MEBIBYTE, 0.03),
}
