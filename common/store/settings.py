"""Settings of the stores: every bound on disk and memory, with its unit."""

from __future__ import annotations

from pydantic import Field

from common.config import Settings

__all__ = ["EdgeStoreSettings", "FogStoreSettings", "StoreSettings"]

MEBIBYTE = 1 << 20
GIBIBYTE = 1 << 30


class StoreSettings(Settings):
    """What both stores need."""

    max_database_bytes: int | None = Field(
        default=None,
        ge=64 << 10,
        description="Size of the SQLite database at most, bytes; null for as much as the disk holds.",
    )
    min_free_bytes: int = Field(
        default=256 * MEBIBYTE,
        ge=0,
        description="Free disk space, bytes, below which nothing new is taken in, so that what is "
        "already accepted can still be finished.",
    )
    cache_bytes: int = Field(
        default=16 * MEBIBYTE,
        ge=1 * MEBIBYTE,
        le=4 * GIBIBYTE,
        description="Memory for SQLite's page cache, bytes.",
    )


class FogStoreSettings(StoreSettings):
    """The fog's uploads and log."""

    keep_training_originals: bool = Field(
        default=False,
        description="Keep the images of training frames after encoding; validation frames and frames "
        "that could not be encoded always stay.",
    )


class EdgeStoreSettings(StoreSettings):
    """The edge's outbox and inbox."""

    max_outbox_frames: int = Field(
        default=20_000,
        ge=1,
        description="Frames waiting for the fog at most; when reached, the recorder waits.",
    )
    max_outbox_bytes: int = Field(
        default=4 * GIBIBYTE,
        ge=1 * MEBIBYTE,
        description="Image bytes waiting for the fog at most; when reached, the recorder waits.",
    )
