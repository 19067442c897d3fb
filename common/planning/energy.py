"""Energy of the nodes: joules a byte on the radio, watts while computing."""

from __future__ import annotations

from dataclasses import dataclass, field

from common.planning.checks import check_range

__all__ = ["Energy", "NodeEnergy"]


@dataclass(frozen=True, slots=True)
class NodeEnergy:
    """What one kind of node draws beyond its idle power.

    Attributes:
        send_j_per_byte: Joules a byte sent, >= 0.
        receive_j_per_byte: Joules a byte received, >= 0.
        encode_w: Watts while frames are encoded, >= 0.
        decode_w: Watts while packets are decoded, >= 0.
        training_w: Watts while a detector is trained, >= 0.

    Raises:
        ConfigError: A value is negative, NaN or infinite.
    """

    send_j_per_byte: float = 0.0
    receive_j_per_byte: float = 0.0
    encode_w: float = 0.0
    decode_w: float = 0.0
    training_w: float = 0.0

    def __post_init__(self) -> None:
        check_range(
            "the energy of a node",
            send_j_per_byte=self.send_j_per_byte,
            receive_j_per_byte=self.receive_j_per_byte,
            encode_w=self.encode_w,
            decode_w=self.decode_w,
            training_w=self.training_w,
        )

    def radio(self, sent: float, received: float) -> float:
        """Joules of ``sent`` and ``received`` bytes."""
        return sent * self.send_j_per_byte + received * self.receive_j_per_byte

    @property
    def computes(self) -> bool:
        """Whether seconds of decoding or training cost energy."""
        return self.decode_w > 0 or self.training_w > 0


@dataclass(frozen=True, slots=True)
class Energy:
    """Energy of both kinds of nodes.

    Attributes:
        device: Of every device; devices never encode.
        fog: Of the fog node; all zeros when only batteries count.
    """

    device: NodeEnergy = field(default_factory=NodeEnergy)
    fog: NodeEnergy = field(default_factory=NodeEnergy)
