"""The parts of a packet: what its contents are made of, boxes and the frame they stand for (numpy only)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from common.frame import Box, FrameIdentity

__all__ = [
    "Background",
    "ImageCodec",
    "ImageFile",
    "Layer",
    "Motion",
    "Network",
    "ObjectPatch",
    "Packet",
    "Patch",
    "Pyramid",
    "QuantizedTensor",
    "Reference",
    "Region",
    "Update",
]

ImageCodec = Literal["jpeg", "webp", "avif"]
Region = tuple[int, int, int, int]
"""x0, y0, x1, y1 in coded pixels, half-open."""


@dataclass(frozen=True, slots=True, eq=False)
class QuantizedTensor:
    """Integers and the step that turns them back: ``value = values * scale``.

    Attributes:
        values: int8 or int16, any shape.
        scale: Step of the uniform symmetric quantizer, float32, >= 0.
    """

    values: npt.NDArray[np.int8] | npt.NDArray[np.int16]
    scale: float


@dataclass(frozen=True, slots=True, eq=False)
class Layer:
    """One linear map: ``weight.values`` (out, in) and ``bias.values`` (out,)."""

    weight: QuantizedTensor
    bias: QuantizedTensor


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """A quantized SIREN: (x, y) -> ``depth`` sine layers of ``width`` -> linear -> RGB.

    Attributes:
        layers: depth + 1 layers: (width, 2), (width, width) x (depth - 1), (3, width).
        w0: Frequency factor of the sine layers.
    """

    layers: tuple[Layer, ...]
    w0: float = 30.0

    @property
    def width(self) -> int:
        """Neurons of a sine layer."""
        return int(self.layers[0].weight.values.shape[0])

    @property
    def depth(self) -> int:
        """Number of sine layers."""
        return len(self.layers) - 1

    @property
    def parameters(self) -> int:
        """Number of weights and biases."""
        return sum(x.weight.values.size + x.bias.values.size for x in self.layers)


@dataclass(frozen=True, slots=True)
class Pyramid:
    """Quantized multi-resolution grids of a region, entropy coded.

    Attributes:
        model: Id of the shared model that decodes them, 4 bytes (:mod:`common.pyramid.models`).
        step: Step of the quantizer, in grey levels of an orthonormal transform; > 0.
        data: Entropy-coded integers of all grids.
    """

    model: bytes
    step: float
    data: bytes


@dataclass(frozen=True, slots=True)
class ImageFile:
    """A region as the file of a classic codec.

    Attributes:
        codec: Format of the file.
        data: The whole file; its image has the region's size.
    """

    codec: ImageCodec
    data: bytes


@dataclass(frozen=True, slots=True)
class Update:
    """A correction added to a referenced background: ``content`` is the residual of ``region``."""

    region: Region
    content: Pyramid


@dataclass(frozen=True, slots=True, eq=False)
class Motion:
    """Where the pixels of a frame lie in its keyframe, beyond what a homography says.

    Attributes:
        spacing: Pixels between two nodes, which lie in the middle of blocks of so many pixels. Between them
            vectors are interpolated bilinearly; beyond the outer ones they are repeated.
        vectors: (rows, columns, 2) int16, to the right and down, in quarter pixels of the keyframe.
    """

    spacing: int
    vectors: npt.NDArray[np.int16]


@dataclass(frozen=True, slots=True)
class Reference:
    """A background that another packet, the keyframe, holds.

    Attributes:
        packet: Content hash (SHA-256) of the keyframe's packet, 32 bytes; its background is no reference.
        homography: Row by row, the first eight entries of the 3 x 3 matrix (the last is 1) that takes pixel
            centres of this frame to those of the keyframe; None: the same view.
        updates: Added one after the other.
        motion: Added to the place in the keyframe at which the homography says that a pixel lies.
    """

    packet: bytes
    homography: tuple[float, ...] | None = None
    updates: tuple[Update, ...] = ()
    motion: Motion | None = None


Background = Network | Pyramid | ImageFile | Reference
Patch = Network | Pyramid | ImageFile


@dataclass(frozen=True, slots=True, eq=False)
class ObjectPatch:
    """What refines one object region.

    Attributes:
        box: Index into ``Packet.boxes``.
        residual_scale: Residual in units of [0, 1] RGB = a network's output * residual_scale; 1 otherwise.
        content: A network (its coordinates run over [-1, 1]^2 of the box's pixel region) or a pyramid is a
            residual, added to the decoded background; an image file replaces the region's pixels.
    """

    box: int
    residual_scale: float
    content: Patch


@dataclass(frozen=True, slots=True, eq=False)
class Packet:
    """One encoded frame.

    Attributes:
        profile: Name of the representation, e.g. "siren".
        width, height: Coded size, pixels.
        labelled, validation: As in :class:`common.frame.Frame`.
        boxes: Labels in pixels of the coded size, in steps of 1/16 pixel, clipped to the frame.
        source_digest: Content hash of the recorded image, 32 bytes.
        background: The whole frame; of a network, RGB = output * 0.5 + 0.5, in [0, 1] after clamping.
        objects: At most one patch a box, in the order of the boxes.
        identity: Who recorded the frame; None for frames encoded offline.
    """

    profile: str
    width: int
    height: int
    labelled: bool
    validation: bool
    boxes: tuple[Box, ...]
    source_digest: bytes
    background: Background
    objects: tuple[ObjectPatch, ...] = ()
    identity: FrameIdentity | None = None

    @property
    def keyframe(self) -> bytes | None:
        """Content hash of the packet that this one needs; None when it is self-contained."""
        return self.background.packet if isinstance(self.background, Reference) else None
