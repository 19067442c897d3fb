"""What a connection to a fog costs beside frames and records."""

from __future__ import annotations

from dataclasses import dataclass

from common.planning.checks import check_positive, check_range

__all__ = ["ControlTraffic"]


@dataclass(frozen=True, slots=True)
class ControlTraffic:
    """Bytes of acknowledgements, handshakes and heartbeats; they are counted, and take no time.

    Attributes:
        answer_bytes: Of the fog for an uploaded frame, >= 0.
        session_up_bytes, session_down_bytes: Of a connection's handshake and greeting, >= 0.
        idle_up_bytes_per_s, idle_down_bytes_per_s: Of heartbeats and reports on a connection that is else
            silent, >= 0.
        heartbeat_s: Seconds of silence after which a device sends a heartbeat: each frame spares one, > 0.

    Raises:
        ConfigError: A value is out of its range or NaN.
    """

    answer_bytes: float = 0.0
    session_up_bytes: float = 0.0
    session_down_bytes: float = 0.0
    idle_up_bytes_per_s: float = 0.0
    idle_down_bytes_per_s: float = 0.0
    heartbeat_s: float = 1.0

    def __post_init__(self) -> None:
        check_range(
            "control traffic",
            answer_bytes=self.answer_bytes,
            session_up_bytes=self.session_up_bytes,
            session_down_bytes=self.session_down_bytes,
            idle_up_bytes_per_s=self.idle_up_bytes_per_s,
            idle_down_bytes_per_s=self.idle_down_bytes_per_s,
        )
        check_positive("control traffic", heartbeat_s=self.heartbeat_s)

    def connection(self, frames: float, connected_s: float) -> tuple[float, float]:
        """(up, down) bytes of one device's connection, answers left out.

        Args:
            frames: Uploaded by the device.
            connected_s: Seconds that it is connected.
        """
        silent = max(0.0, connected_s - frames * self.heartbeat_s)
        return (
            self.session_up_bytes + self.idle_up_bytes_per_s * silent,
            self.session_down_bytes + self.idle_down_bytes_per_s * silent,
        )
