"""Settings of encoder workers on Ray: ``workers.ray`` of ``configs/fog.yaml`` (no torch, no ray)."""

from __future__ import annotations

from pydantic import Field

from common.config import Settings

__all__ = ["RaySettings"]


class RaySettings(Settings):
    """Where the workers run, and what each asks for there.

    Of each worker one batch is in flight at a time: ``workers.workers`` times ``encoder.batch_frames`` frames
    are in the cluster at most, as uploaded, and ``children.pipe_bytes`` bounds each batch.
    """

    address: str = Field(
        "local",
        pattern=r"^(local|auto|(ray://)?[^\s:/]+:\d{1,5})$",
        description="local: a Ray of its own on this machine; auto: the Ray node that runs on this machine; "
        "HOST:PORT: that cluster, of which this machine is a node; ray://HOST:PORT: a cluster elsewhere",
    )
    cpus: float = Field(
        1.0, ge=0, le=1024, description="CPUs that each worker reserves, and its threads if threads is 0"
    )
    gpus: float = Field(
        0.0,
        ge=0,
        le=64,
        description="GPUs that each worker reserves; below 1 they share one; 0: it sees none",
    )
    resources: dict[str, float] = Field(
        {}, max_length=16, description="what else each worker reserves, by the name that nodes gave it"
    )
    object_store_bytes: int = Field(
        256 << 20,
        ge=80 << 20,
        le=1 << 40,
        description="shared memory of a local Ray, bytes: batches in flight and their packets lie in it",
    )
    start_s: float = Field(
        30.0,
        ge=1,
        le=3600,
        description="seconds to reach a cluster; then also between two log lines on a worker without a place",
    )
