"""Settings that a fog node and an edge node share (no torch)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import Field

from common.config import Settings, load_settings

__all__ = [
    "AgreementDrop",
    "CheckInterval",
    "ChildSettings",
    "LogLevel",
    "LogSettings",
    "MonitoringSettings",
    "MostWait",
    "load_node_settings",
    "resolve",
]

LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR"]

MostWait = Annotated[
    float | None,
    Field(
        gt=0,
        le=31_536_000,
        description="seconds since the last round after which any new frame begins one; null: only "
        "min_new_frames does",
    ),
]

CheckInterval = Annotated[
    float | None,
    Field(
        gt=0,
        le=31_536_000,
        description="seconds between two checks of the detector in use against the newest labels and, on the "
        "validation frames, against the detector before it, which comes back if it is better; null: none",
    ),
]

AgreementDrop = Annotated[
    float,
    Field(
        ge=0,
        le=1,
        description="drop of the share of newly labelled boxes that the detector in use finds, below the "
        "best since it was deployed, after which any new frame begins a round",
    ),
]

S = TypeVar("S", bound=Settings)


class ChildSettings(Settings):
    """Child processes: encoder workers and the trainer."""

    pipe_bytes: int = Field(
        256 * 1024 * 1024,
        ge=1 << 20,
        le=(1 << 32) - 1,
        description="bound on one message between the daemon and a child, bytes",
    )
    stop_s: float = Field(
        10.0, ge=0, le=3600, description="seconds a child gets to end after it was told to, before SIGTERM"
    )
    terminate_s: float = Field(5.0, ge=0.1, le=600, description="seconds from SIGTERM to SIGKILL")
    restart_first_s: float = Field(
        1.0, ge=0.01, le=600, description="longest wait before the first restart of a crashed child, seconds"
    )
    restart_max_s: float = Field(
        60.0, ge=0.01, le=3600, description="longest wait before any restart of a crashing child, seconds"
    )


class MonitoringSettings(Settings):
    """Where ``/health`` and ``/metrics`` (Prometheus) are; anyone who reaches the address may read them."""

    host: str = Field(
        "127.0.0.1",
        min_length=1,
        max_length=255,
        description="address to bind; 0.0.0.0 lets other machines ask, without encryption or a password",
    )
    port: int | None = Field(
        None, ge=0, le=65_535, description="TCP port; 0 lets the system choose (see status); null: none"
    )
    connections: int = Field(
        8, ge=1, le=1000, description="connections at one time, a thread each; more are closed at once"
    )
    request_s: float = Field(
        10.0, ge=0.1, le=600, description="seconds in which a client must have asked and taken its answer"
    )


class LogSettings(Settings):
    """The log on stderr."""

    log_level: LogLevel = Field("INFO", description="least level of the log lines on stderr")
    log_format: Literal["text", "json"] = Field(
        "text", description="text, or json: an object a line, with device, frame and job where they are known"
    )
    log_lines_per_minute: int | None = Field(
        30,
        ge=1,
        le=1_000_000,
        description="lines of one kind a minute; the next one tells how many were left out; null: no bound",
    )


def load_node_settings(path: str | Path, model: type[S]) -> tuple[S, Path]:
    """Read a node's YAML; returns the settings and the folder that their relative paths start from.

    Raises:
        ConfigError: As :func:`common.config.load_settings`.
    """
    settings = load_settings(path, model)
    return settings, Path(path).resolve().parent


def resolve(base: Path, path: str) -> Path:
    """``path`` itself when absolute (``~`` is the home folder), else taken from ``base``."""
    return base / Path(path).expanduser()
