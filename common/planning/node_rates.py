"""How quickly one device computes."""

from __future__ import annotations

from dataclasses import dataclass

from common.errors import ConfigError
from common.planning.checks import check_positive, check_range

__all__ = ["NodeRates"]


@dataclass(frozen=True, slots=True)
class NodeRates:
    """Measured rates of a device that learns; None: as the others' (:class:`.deployment.Rates`).

    Attributes:
        decode_frames_per_s: Frames a second that it decodes for training, > 0.
        training_s: Seconds of one round, >= 0; its decoding is contained unless ``decode_frames_per_s`` is
            given.
        training_frames_per_s: Frames a second that it trains on, decoding left out, > 0; instead of
            ``training_s`` where a round's length follows the frames.

    Raises:
        ConfigError: A value is out of its range, or both ways to tell the training's length are used.
    """

    decode_frames_per_s: float | None = None
    training_s: float | None = None
    training_frames_per_s: float | None = None

    def __post_init__(self) -> None:
        check_positive(
            "a device's rates",
            decode_frames_per_s=self.decode_frames_per_s,
            training_frames_per_s=self.training_frames_per_s,
        )
        check_range("a device's rates", training_s=self.training_s)
        if self.training_s is not None and self.training_frames_per_s is not None:
            raise ConfigError("a device's rates have training_s and training_frames_per_s; give one of them")
