"""Settings of the wire: every bound on message, queue, window and chunk, with its unit."""

from __future__ import annotations

from pydantic import Field

from common.config import Settings
from common.wire.messages import MAX_PAYLOAD_BYTES

__all__ = ["WireSettings"]

MEBIBYTE = 1 << 20


class WireSettings(Settings):
    """What both ends of a connection keep to."""

    max_message_bytes: int = Field(
        default=16 * MEBIBYTE,
        ge=1 * MEBIBYTE,
        le=MAX_PAYLOAD_BYTES,
        description="One ZeroMQ frame at most, bytes: the largest image that can be uploaded. A peer "
        "that sends more is disconnected.",
    )
    send_queue_messages: int = Field(
        default=200,
        ge=2,
        le=100_000,
        description="Frames queued for one peer at most (ZeroMQ's high-water mark); memory is at most "
        "this times max_message_bytes.",
    )
    receive_queue_messages: int = Field(
        default=200, ge=2, le=100_000, description="Frames queued from one peer at most, as above."
    )
    handshake_seconds: float = Field(
        default=10.0, gt=0, le=300, description="Time for a peer to authenticate, seconds."
    )
    heartbeat_seconds: float = Field(
        default=1.0, gt=0, le=3600, description="Silence after which a Ping is sent, seconds."
    )
    liveness: int = Field(
        default=5, ge=2, le=100, description="Heartbeats of silence after which a peer counts as lost."
    )
    backoff_first_seconds: float = Field(
        default=1.0, gt=0, le=3600, description="Longest first wait before connecting again, seconds."
    )
    backoff_last_seconds: float = Field(
        default=32.0, gt=0, le=86_400, description="Longest wait before connecting again, seconds."
    )
    window_records: int = Field(
        default=1_000, ge=1, le=1_000_000, description="Records in flight to an edge at most."
    )
    window_bytes: int = Field(
        default=2_500_000,
        ge=1,
        le=1 << 40,
        description="Payload bytes in flight to an edge at most (ten payloads of 250 kB measured near "
        "the uncontrolled rate).",
    )
    upload_window_frames: int = Field(
        default=32, ge=1, le=100_000, description="Uploads in flight from an edge at most."
    )
    chunk_bytes: int = Field(
        default=256 << 10,
        ge=4 << 10,
        le=MAX_PAYLOAD_BYTES,
        description="Part of a large payload fetched at a time, bytes.",
    )
