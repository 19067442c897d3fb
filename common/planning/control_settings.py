"""What a connection costs beside frames and records, as settings of the planner and of scenarios."""

from __future__ import annotations

from pydantic import Field

from common.config import Settings
from common.planning.control import ControlTraffic

__all__ = ["ControlSettings"]


class ControlSettings(Settings):
    """Acknowledgements, handshakes and heartbeats.

    Defaults are measured ones (``benchmarks/planner_validation.py``), with a report of rates every 30 s.
    """

    answer_bytes: float = Field(75.0, ge=0, le=1e6, description="bytes of the fog for an uploaded frame")
    session_up_bytes: float = Field(
        1200.0, ge=0, le=1e9, description="bytes up of a connection's handshake and greeting"
    )
    session_down_bytes: float = Field(650.0, ge=0, le=1e9, description="bytes down of the same")
    idle_up_bytes_per_s: float = Field(
        60.0, ge=0, le=1e6, description="bytes a second up of heartbeats and reports while all else is silent"
    )
    idle_down_bytes_per_s: float = Field(60.0, ge=0, le=1e6, description="bytes a second down of the same")
    heartbeat_s: float = Field(
        1.0,
        gt=0,
        le=3600,
        description="seconds of silence before a heartbeat, as wire.heartbeat_seconds; a frame spares one",
    )

    def traffic(self) -> ControlTraffic:
        """As the communication model takes it."""
        return ControlTraffic(**self.model_dump())
