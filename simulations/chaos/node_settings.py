"""Configurations of the daemons of a chaos run: waits so short that a run of seconds meets all of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from simulations.chaos import passthrough, stand_in_trainer
from simulations.chaos.plan import Recording, Variant

__all__ = ["edge_settings", "fog_settings", "storage"]

QUICK_WIRE = {
    "heartbeat_seconds": 0.2,
    "liveness": 10,
    "backoff_first_seconds": 0.05,
    "backoff_last_seconds": 0.4,
}
"""Waits so short that a run of seconds meets all of them."""

QUICK_CHILDREN = {"restart_first_s": 0.05, "restart_max_s": 0.3, "stop_s": 2.0, "terminate_s": 1.0}

QUICK_ENCODER = {
    "background_psnr": 24.0,
    "object_psnr": 28.0,
    "time_budget_s": 1.0,
    "batch_frames": 4,
}
"""Where frames are really encoded, it is not their quality that is tested."""

LOOK_S = 1.0
"""Seconds between two looks at a source whose labels are corrected."""


TINY_DETECTOR = {"imgsz": 64, "batch": 4, "max_steps": 4}
"""Where trainers really train, it is not what they learn that is tested."""


def fog_settings(
    address: str, variant: Variant, profile: str | None, width: int, *, train: bool = False
) -> dict[str, Any]:
    """Of a fog.

    Args:
        address: tcp://HOST:PORT to bind.
        variant: Of the run.
        profile: Of its encoder; None: frames are stored as they are.
        width: Of frames to encode, pixels.
        train: Whether its trainer really trains.
    """
    settings: dict[str, Any] = {
        "address": address,
        "store": "disk/store",
        "storage": storage(variant),
        # Encoders are killed without any fault of the frames that they hold.
        "workers": {"workers": 1, "threads": 1, "wait_s": 0.05, "attempts": 20, "start_attempts": 1000},
        "training": {
            "strategy": "fog",
            "min_frames": 5,
            "min_new_frames": 10,
            **_trainer(train),
        },
        "wire": QUICK_WIRE,
        "children": QUICK_CHILDREN,
        "allow_check_s": 0.5,
        "monitoring": {"port": None},
        "status_s": 0.1,
        "retry_full_s": 0.2,
        "drain_s": 10.0,
    }
    if profile is None:
        settings["workers"]["module"] = passthrough.MODULE
    else:
        settings["encoder"] = {"profile": profile, "width": width, **QUICK_ENCODER}
    return settings


def storage(variant: Variant) -> dict[str, Any]:
    """The bounds of a fog's store."""
    if variant.bound is None:
        return {"min_free_bytes": 0}
    retention = {"max_records": variant.bound.records, "when_full": variant.bound.when_full, "check_s": 0.2}
    return {"min_free_bytes": 0, "retention": retention}


def edge_settings(
    folder: Path,
    fogs: Sequence[tuple[str, str]],
    recording: Recording,
    relabelled: bool,
    *,
    train: bool = False,
) -> dict[str, Any]:
    """Of an edge.

    Args:
        folder: Its files.
        fogs: (HOST:PORT, public key) of each.
        recording: What it records.
        relabelled: Whether labels are corrected, so that it looks at its source again and again.
        train: Whether its trainer really trains.
    """
    known = [{"address": f"tcp://{address}", "public_key": key} for address, key in fogs]
    source: dict[str, Any] = {"path": str(folder / "frames"), "frames_per_second": recording.per_s}
    if relabelled:
        source["again_s"] = LOOK_S
    return {
        **({"fog": known[0]} if len(known) == 1 else {"fogs": known}),
        "store": "disk/store",
        "storage": {"min_free_bytes": 0},
        "sources": [source] if recording.frames else [],
        "training": {"mode": "always", "min_new_frames": 5 if train else 15, **_trainer(train)},
        "wire": QUICK_WIRE,
        "children": QUICK_CHILDREN,
        "monitoring": {"port": None},
        "status_s": 0.1,
        "drain_s": 10.0,
    }


def _trainer(train: bool) -> dict[str, Any]:
    return {"detector": TINY_DETECTOR} if train else {"module": stand_in_trainer.MODULE}
