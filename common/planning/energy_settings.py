"""Energy of the nodes as settings, for the fog's planner and for scenarios."""

from __future__ import annotations

from pydantic import Field

from common.config import Settings
from common.planning.energy import Energy, NodeEnergy

__all__ = ["EnergySettings", "NodeEnergySettings"]


class NodeEnergySettings(Settings):
    """What one kind of node draws beyond its idle power."""

    send_j_per_byte: float = Field(0.0, ge=0, le=1e3, description="joules a byte sent")
    receive_j_per_byte: float = Field(0.0, ge=0, le=1e3, description="joules a byte received")
    encode_w: float = Field(0.0, ge=0, le=1e6, description="watts while frames are encoded")
    decode_w: float = Field(0.0, ge=0, le=1e6, description="watts while packets are decoded")
    training_w: float = Field(0.0, ge=0, le=1e6, description="watts while a detector is trained")


class EnergySettings(Settings):
    """Energy of both kinds of nodes."""

    device: NodeEnergySettings = Field(NodeEnergySettings(), description="every device; devices never encode")
    fog: NodeEnergySettings = Field(
        NodeEnergySettings(), description="the fog node; all zeros when only batteries count"
    )

    def energy(self) -> Energy:
        """As the communication model takes it."""
        return Energy(NodeEnergy(**self.device.model_dump()), NodeEnergy(**self.fog.model_dump()))
