"""Settings of the stores: every bound on disk and memory, with its unit."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from common.config import Settings

__all__ = ["EdgeStoreSettings", "FogStoreSettings", "RetentionSettings", "ScrubSettings", "StoreSettings"]

MEBIBYTE = 1 << 20
GIBIBYTE = 1 << 30


class RetentionSettings(Settings):
    """How long and how many records are kept; frames that wait to be encoded or sent are never dropped."""

    max_age_s: float | None = Field(
        default=None,
        gt=0,
        description="Seconds that a record is kept, by this machine's clock; null for ever.",
    )
    max_bytes: int | None = Field(
        default=None,
        ge=1 << 16,
        description="Payload bytes of the records, files included, at most; null for as many as the disk "
        "holds.",
    )
    max_records: int | None = Field(
        default=None, ge=1, description="Records at most; null for as many as the disk holds."
    )
    max_original_bytes: int | None = Field(
        default=None,
        ge=0,
        description="Bytes of original images kept of own or received frames that are done, at most; the "
        "oldest go first; null for as many as the disk holds.",
    )
    when_full: Literal["refuse", "drop_oldest"] = Field(
        default="refuse",
        description="At max_bytes, max_records or where the disk ends: refuse to take in more for now, so "
        "that the sender waits; or drop_oldest, so that a reader behind is told what it missed.",
    )
    check_s: float = Field(
        default=10.0, ge=0.05, le=86_400, description="Seconds between two looks at what is to be dropped."
    )
    batch_records: int = Field(
        default=500,
        ge=1,
        le=100_000,
        description="Records dropped in one transaction at most, so that nothing waits long behind it.",
    )


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
    max_check_bytes: int = Field(
        default=1 * GIBIBYTE,
        ge=0,
        description="Size up to which the database is checked page by page when the node starts, bytes.",
    )
    max_quarantine_bytes: int = Field(
        default=64 * MEBIBYTE,
        ge=0,
        description="Content found damaged that is kept to be looked at, bytes; beyond it only what is known "
        "of it.",
    )
    retention: RetentionSettings = Field(
        default=RetentionSettings(), description="What is kept, and what happens when that is full."
    )


class ScrubSettings(Settings):
    """Reading the log again to find damage before a reader needs it."""

    bytes_per_s: float | None = Field(
        default=100_000.0,
        gt=0,
        le=1e12,
        description="Payload bytes read again a second; 9 GB take a day, and a disk hardly notices; "
        "null: a record is checked only when it is asked for.",
    )
    every_s: float = Field(
        default=86_400.0,
        ge=0,
        le=31_536_000,
        description="Least seconds from the beginning of a pass to that of the next.",
    )


class FogStoreSettings(StoreSettings):
    """The fog's uploads and log."""

    keep_training_originals: bool = Field(
        default=False,
        description="Keep the images of training frames after encoding; validation frames and frames "
        "that could not be encoded always stay.",
    )
    scrub: ScrubSettings = Field(
        default=ScrubSettings(), description="How the log is read again, to find damage."
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
