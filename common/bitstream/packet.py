"""The parts of a packet: quantized networks, boxes and the frame they stand for (numpy only)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from common.frame import Box, FrameIdentity

__all__ = ["Layer", "Network", "ObjectNetwork", "Packet", "QuantizedTensor"]


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


@dataclass(frozen=True, slots=True, eq=False)
class ObjectNetwork:
    """The residual of one object region.

    Attributes:
        box: Index into ``Packet.boxes``.
        residual_scale: Residual in units of [0, 1] RGB = network output * residual_scale.
        network: Its coordinates run over [-1, 1]^2 of the box's pixel region.
    """

    box: int
    residual_scale: float
    network: Network


@dataclass(frozen=True, slots=True, eq=False)
class Packet:
    """One encoded frame.

    Attributes:
        profile: Name of the representation, e.g. "siren".
        width, height: Coded size, pixels.
        labelled, validation: As in :class:`common.frame.Frame`.
        boxes: Labels in pixels of the coded size, in steps of 1/16 pixel, clipped to the frame.
        source_digest: Content hash of the recorded image, 32 bytes.
        background: Network of the whole frame; RGB = output * 0.5 + 0.5, in [0, 1] after clamping.
        objects: At most one residual network a box, in the order of the boxes.
        identity: Who recorded the frame; None for frames encoded offline.
    """

    profile: str
    width: int
    height: int
    labelled: bool
    validation: bool
    boxes: tuple[Box, ...]
    source_digest: bytes
    background: Network
    objects: tuple[ObjectNetwork, ...] = ()
    identity: FrameIdentity | None = None
