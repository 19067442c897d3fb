"""The one place where Ultralytics is made quiet, offline and safe; call before it is first imported."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from pathlib import Path

__all__ = ["prepare_yolo"]

_QUIET = {
    "YOLO_OFFLINE": "1",  # no connection test, no downloads, no usage statistics
    "YOLO_AUTOINSTALL": "0",  # never run pip
    "YOLO_VERBOSE": "0",  # nothing on stdout, which belongs to --json and to the trainer's pipe
    "ULTRALYTICS_SAFE_LOAD": "1",  # a .pt file is unpickled with weights_only and an allow-list
}
_INTEGRATIONS = ("clearml", "comet", "dvc", "hub", "mlflow", "neptune", "raytune", "tensorboard", "wandb")


def prepare_yolo(threads: int | None = None) -> None:
    """Set Ultralytics' environment and import it.

    Args:
        threads: CPU threads torch may use afterwards. Importing Ultralytics sets OMP_NUM_THREADS to 1 when it
            is unset; None leaves torch's own number of threads as it was.
    """
    import torch

    before = torch.get_num_threads()
    if "ultralytics" not in sys.modules:
        for name, value in _QUIET.items():
            os.environ.setdefault(name, value)
        os.environ.setdefault("YOLO_CONFIG_DIR", str(_config_dir()))
    from ultralytics.utils import SETTINGS

    if os.environ.get("YOLO_VERBOSE", "0") == "0":
        # Also where something else imported it first; its progress bars obey the same level.
        logging.getLogger("ultralytics").setLevel(logging.ERROR)
    wanted = {"sync": False, **dict.fromkeys(_INTEGRATIONS, False)}
    changed = {key: value for key, value in wanted.items() if SETTINGS.get(key, value) != value}
    if changed:
        SETTINGS.update(changed)
    torch.set_num_threads(threads or before)


def _config_dir() -> Path:
    """Folder for Ultralytics' own settings file: in the user's cache, or temporary if that is read-only."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "residual-inr" / "ultralytics"
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError:
        return Path(tempfile.mkdtemp(prefix="residual-inr-yolo-"))
    return cache if os.access(cache, os.W_OK) else Path(tempfile.mkdtemp(prefix="residual-inr-yolo-"))
