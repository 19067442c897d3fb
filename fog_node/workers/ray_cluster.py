"""The Ray that encoder workers run on: reached, or started on this machine, and left again.

Ray is an optional extra and slow to import: only the driver's process imports it, in here.
"""

from __future__ import annotations

import math
import os
import secrets
import socket
from importlib import metadata
from types import ModuleType
from typing import Any

from common.errors import ConfigError
from fog_node.workers.ray_settings import RaySettings

__all__ = ["connect", "disconnect", "is_own", "ray_version", "reason_of", "sentence_of"]

LOG_BYTES = 8 << 20
"""Size of each log file of a local Ray, bytes; one older file of each is kept."""

REASON_LIMIT = 300
"""Characters of Ray's own words in a sentence."""


def ray_version() -> str:
    """The installed version of Ray, found without importing it.

    Raises:
        ConfigError: There is none.
    """
    try:
        return metadata.version("ray")
    except metadata.PackageNotFoundError:
        raise ConfigError(
            "workers.ray is set but Ray is not installed; install residual-inr[ray] or set it to null"
        ) from None


def connect(settings: RaySettings, *, workers: int, folder: str) -> ModuleType:
    """Reach the cluster, or start a Ray of this process on this machine; the module ``ray``, ready for use.

    Args:
        settings: Where, and what a worker reserves.
        workers: How many workers a local Ray must have room for.
        folder: Folder for the files of a local Ray.

    Raises:
        ConfigError: Ray is not installed, the cluster is not reached, or it runs other versions.
    """
    ray_version()
    local = settings.address == "local"
    # Set before Ray is imported: it must send nothing to its makers.
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    if local:
        # Nobody but this process and its workers talks to this Ray, unless a token was given.
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        # Ray would run workers at a niceness of 15, which child processes do not have.
        os.environ.setdefault("RAY_worker_niceness", "0")
        os.environ |= {"RAY_ROTATION_MAX_BYTES": str(LOG_BYTES), "RAY_ROTATION_BACKUP_COUNT": "1"}
    # Ray gives the workers the current folder as a place of modules, in which any "common" would hide ours.
    os.chdir("/")
    _require_answer(settings)
    try:
        import ray

        # Reasons of failures come with the answers; what workers print is in Ray's own logs.
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
        if settings.address.startswith("ray://"):
            # The client would pass them on to a server that has been started long ago.
            options = {}
        if local:
            options |= {
                "num_cpus": max(1, math.ceil(workers * settings.cpus)),
                "num_gpus": None if settings.gpus else 0,
                "resources": {name: workers * amount for name, amount in settings.resources.items()},
                "object_store_memory": settings.object_store_bytes,
                "include_dashboard": False,
                "_temp_dir": folder,
            }
        ray.init(settings.address, **options)
    except Exception as error:  # Ray raises builtins, errors of its own and those of gRPC
        raise ConfigError(sentence_of(settings.address, error)) from error
    return ray


def disconnect(ray: ModuleType) -> None:
    """Leave the cluster, which ends this driver's workers; a local Ray ends as a whole."""
    ray.shutdown()


def reason_of(error: BaseException) -> str:
    """Why a call to a worker failed, in a few words: the worker's own error, or how its process ended."""
    ended = type(error).__name__ == "ActorDiedError"
    cause = getattr(error, "cause", None)
    if isinstance(cause, Exception):
        error = cause
    words = str(error)
    if type(error).__module__.startswith("ray."):
        # Ray's texts are a paragraph of general advice; what happened stands behind these.
        for mark in ("Worker exit detail: ", "The actor is dead because "):
            words = words.rpartition(mark)[2]
        words = words.partition(" Some common causes")[0]
    words = " ".join(words.split())[:REASON_LIMIT] or "no message"
    return f"the death of its process ({words})" if ended else f"{type(error).__name__}: {words}"


def is_own(error: BaseException) -> bool:
    """Whether the worker's own code raised this, and not Ray for a process or a node that is gone."""
    return isinstance(getattr(error, "cause", None), Exception)


def _require_answer(settings: RaySettings) -> None:
    """Whether something listens there: Ray itself would try for minutes and end this process."""
    host, _, port = settings.address.removeprefix("ray://").rpartition(":")
    if not host:
        return
    try:
        socket.create_connection((host, int(port)), settings.start_s).close()
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"the Ray cluster at {settings.address} is not reached ({error}); start its head node, or mend "
            "workers.ray.address"
        ) from error


def sentence_of(address: str, error: Exception) -> str:
    """Why the Ray at ``address`` cannot be used: one sentence for what Ray says in many."""
    words = " ".join(str(error).split())
    if "Version mismatch" in words:
        versions = words.partition("Version mismatch: ")[2].rstrip(".")
        return (
            f"the Ray cluster at {address} runs other versions: {versions}; install the same Ray and Python "
            "on the fog and on every node of the cluster"
        )
    if "Could not find any running Ray instance" in words:
        return (
            "no Ray runs on this machine for workers.ray.address auto; start it with ray start, or set the "
            "address to local"
        )
    if isinstance(error, ImportError):
        missing = "ray[client]" if address.startswith("ray://") else "residual-inr[ray] anew"
        return f"Ray cannot be imported ({words[:REASON_LIMIT]}); install {missing}"
    return f"Ray at address {address} cannot be used: {type(error).__name__}: {words[:REASON_LIMIT]}"
