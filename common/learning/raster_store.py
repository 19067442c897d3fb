"""Frames that are composed at their coded size, resident in memory: pyramids, image files and references."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias
from weakref import WeakValueDictionary

import numpy as np
import torch
from torch import Tensor

from common.bitstream.image_payload import encode_image
from common.bitstream.network_payload import encode_network
from common.bitstream.packet import Background, ImageFile, Network, Packet, Patch, Pyramid, Reference, Region
from common.bitstream.pyramid_payload import encode_pyramid
from common.errors import KeyframeError
from common.inr.groups import NetworkGroup
from common.inr.raster import check_work, file_pixels, find_keyframe
from common.inr.vector import box_region
from common.learning.raster_frame import (
    Layer,
    RasterFrame,
    ResidentContent,
    ResidentPyramid,
    render_frames,
    render_part,
)
from common.pyramid.decoder import decode_sparse
from common.pyramid.model import find_model
from common.pyramid.sparse import SparseGrids

__all__ = ["Integers", "RasterStore"]

CPU_PIXELS = 1 << 18
"""Pixels decoded at a time on the CPU, unless one frame alone has more: they stay in its caches."""
PIXEL_BYTES = 64
"""Memory that a pixel takes on a GPU while it is decoded, bytes."""
FREE_SHARE = 0.25
"""Share of a GPU's free memory that a decode may take: the network that learns needs the rest."""


Integers: TypeAlias = dict[tuple[bytes, int, int, bool], bytes]
"""Decoded integers of pyramids, by data, height, width and whether they are a residual's; of an image file
nothing, which says that it was read before."""


class RasterStore:
    """Frames, numbered in the order of arrival.

    Coded integers are decoded once, on arrival, and stay as sparse lists on the device. A background lies
    here once, shared by its own frame and by those that refer to it, and goes with the last of them.

    Args:
        device: Where pixels are computed.
        decode_bytes: Bound on a GPU's memory for frames decoded together; one frame may take more.
    """

    def __init__(self, device: torch.device, decode_bytes: int = 1 << 28) -> None:
        self.device = device
        self._decode_bytes = decode_bytes
        self.end = 0
        """Number that the next frame will get."""
        self._frames: dict[int, RasterFrame] = {}
        self._bytes = 0
        # Frames are prepared beside a training that decodes others.
        self._lock = threading.Lock()
        # Kept backgrounds and by how many frames; and those of prepared frames too.
        self._users: dict[bytes, int] = {}
        self._known: WeakValueDictionary[bytes, Layer] = WeakValueDictionary()

    def __len__(self) -> int:
        return len(self._frames)

    @property
    def nbytes(self) -> int:
        """Bytes of all frames, in device and host memory."""
        return self._bytes

    def prepare(
        self, packet: Packet, keyframes: Mapping[bytes, Packet], integers: Integers | None = None
    ) -> RasterFrame:
        """Decode a packet as far as it is decoded once; it is not kept yet. May be called from any thread.

        Args:
            packet: Of any kind but one of networks only.
            keyframes: Packets that it may refer to, by content hash.
            integers: Those decoded before; what is decoded now is entered.

        Raises:
            KeyframeError: The packet's keyframe is missing or does not fit.
            PacketFormatError: Coded contents are damaged.
        """
        check_work(packet)
        content = packet.background
        height, width = packet.height, packet.width
        reference: Reference | None = None
        updates: list[tuple[Region, Layer]] = []
        if isinstance(content, Reference):
            keyframe = find_keyframe(content, keyframes, (height, width))
            background = self._background(keyframe.background, keyframe.height, keyframe.width, integers)
            moved = content.homography is not None or content.motion is not None
            if not moved and (keyframe.height, keyframe.width) != (height, width):
                raise KeyframeError(
                    f"the keyframe has {keyframe.width}x{keyframe.height} pixels, the packet "
                    f"{width}x{height}; the sender's packet is wrong"
                )
            reference = replace(content, updates=())
            updates = [
                (part.region, self._patch(part.content, part.region, integers)) for part in content.updates
            ]
        else:
            background = self._background(content, height, width, integers)
        patches = []
        for patch in packet.objects:
            region = box_region(packet, patch.box)
            patches.append((region, self._patch(patch.content, region, integers, patch.residual_scale)))
        return RasterFrame(height, width, background, reference, tuple(updates), tuple(patches))

    def growth(self, frames: Sequence[RasterFrame]) -> int:
        """Bytes that keeping these frames takes."""
        backgrounds = {frame.background.key: frame.background for frame in frames}
        new = [layer.nbytes for key, layer in backgrounds.items() if key not in self._users]
        return sum(new) + sum(frame.nbytes for frame in frames)

    def append(self, frame: RasterFrame) -> int:
        """Keep a frame; returns its number."""
        self._bytes += self.growth([frame])
        key = frame.background.key
        self._users[key] = self._users.get(key, 0) + 1
        self._frames[self.end] = frame
        self.end += 1
        return self.end - 1

    def drop(self, numbers: Iterable[int]) -> None:
        """Forget these frames."""
        for number in numbers:
            frame = self._frames.pop(number)
            self._bytes -= frame.nbytes
            key = frame.background.key
            self._users[key] -= 1
            if not self._users[key]:
                del self._users[key]
                self._bytes -= frame.background.nbytes

    def part(self, number: int, window: Region, filtered: bool = True) -> Tensor:
        """Part of a frame; see :func:`common.learning.raster_frame.render_part`."""
        return render_part(self._frames[number], window, self.device, filtered)

    def images(self, numbers: Sequence[int], filtered: bool = True) -> Iterator[tuple[int, Tensor]]:
        """Pixels of frames by number, several at a time.

        Args:
            numbers: Any.
            filtered: As in :func:`common.learning.raster_frame.render_frames`.

        Yields:
            Place in ``numbers``, and the frame: (3, height, width) float32 RGB, not clamped.
        """
        limit = self._pixels_at_a_time()
        run: list[RasterFrame] = []
        start = 0
        for place, number in enumerate(numbers):
            frame = self._frames[number]
            if run and _pixels([*run, frame]) > limit:
                yield from enumerate(render_frames(run, self.device, filtered), start)
                run, start = [], place
            run.append(frame)
        yield from enumerate(render_frames(run, self.device, filtered), start)

    def _pixels_at_a_time(self) -> int:
        if self.device.type != "cuda":
            return CPU_PIXELS
        # What torch has reserved and not given out is free for it, too.
        unused = torch.cuda.memory_reserved(self.device) - torch.cuda.memory_allocated(self.device)
        free = torch.cuda.mem_get_info(self.device)[0] + unused
        return min(self._decode_bytes, int(free * FREE_SHARE)) // PIXEL_BYTES

    def _background(self, content: Background, height: int, width: int, integers: Integers | None) -> Layer:
        key = hashlib.sha256(_payload(content) + bytes(f"{width}x{height}", "ascii")).digest()
        with self._lock:
            layer = self._known.get(key)
        if layer is None:
            layer = Layer(
                self._content(content, height, width, False, integers), height, width, False, 1.0, key
            )
            with self._lock:
                layer = self._known.setdefault(key, layer)
        elif integers is not None and isinstance(content, Pyramid):
            known = layer.content
            if isinstance(known, ResidentPyramid):
                place = content.data, height, width, False
                integers.setdefault(place, known.grids.entries.cpu().numpy().tobytes())
        return layer

    def _patch(self, content: Patch, region: Region, integers: Integers | None, scale: float = 1.0) -> Layer:
        height, width = region[3] - region[1], region[2] - region[0]
        residual = not isinstance(content, ImageFile)
        made = self._content(content, height, width, residual, integers)
        return Layer(made, height, width, residual, scale)

    def _content(
        self, content: Background, height: int, width: int, residual: bool, integers: Integers | None
    ) -> ResidentContent:
        if isinstance(content, Pyramid):
            place = content.data, height, width, residual
            held = None if integers is None else integers.get(place)
            if held is not None:
                entries = torch.from_numpy(np.frombuffer(bytearray(held), np.uint8)).view(-1, 2)
                grids = SparseGrids(height, width, entries.to(self.device))
                return ResidentPyramid(grids, find_model(content.model), content.step)
            model, decoded = decode_sparse(content, height, width, residual=residual)
            if integers is not None:
                integers[place] = decoded.entries.numpy().tobytes()
            return ResidentPyramid(decoded.to(self.device), model, content.step)
        if isinstance(content, ImageFile):
            place = content.data, height, width, residual
            if integers is None or place not in integers:
                # Once now: a damaged file must not end a training.
                file_pixels(content, height, width, "cpu")
            if integers is not None:
                integers[place] = b""
            return content
        if isinstance(content, Network):
            return NetworkGroup.pack([content], self.device)
        raise KeyframeError("the packet's keyframe is itself no keyframe")


def _pixels(frames: Sequence[RasterFrame]) -> int:
    """Pixels decoded for frames together: their own, and once those of each background they refer to."""
    keyframes = {id(frame.background): frame.background for frame in frames if frame.reference is not None}
    own = sum(frame.height * frame.width for frame in frames)
    return own + sum(layer.height * layer.width for layer in keyframes.values())


def _payload(content: Background) -> bytes:
    match content:
        case Pyramid():
            return b"pyramid" + encode_pyramid(content)
        case ImageFile():
            return b"image" + encode_image(content)
        case Network():
            return b"network" + encode_network(content)
    raise KeyframeError("the packet's keyframe is itself no keyframe")
