"""``edge-node doctor``: what this machine can do, and what to mend."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import shutil
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from common.cli import add_json, print_json
from common.errors import reason

__all__ = ["Check", "add_parser", "examine"]

CONNECT_TIMEOUT_S = 3.0
LOW_MEMORY_BYTES = 2 << 30
"""Free memory below which training YOLOv8n at 640 pixels does not fit beside the daemon."""
LOW_DISK_BYTES = 1 << 30
"""Free disk below which a checkpoint and a day's packets may not fit."""
PACKAGES = (
    *("torch", "torchvision", "ultralytics", "triton", "opencv-python", "numpy", "pyzmq", "safetensors"),
    *("constriction", "pillow"),
)


@dataclass(frozen=True, slots=True)
class Check:
    """One finding.

    Attributes:
        name: What was looked at.
        ok: Whether the node can work with it.
        detail: What was found; when it is not ok, how to mend it.
        value: The bare figure for programs, if there is one.
    """

    name: str
    ok: bool
    detail: str
    value: Any = None


def add_parser(subparsers: Any) -> None:
    """Add ``doctor``."""
    parser = subparsers.add_parser("doctor", help="what this machine can do, and what to mend")
    parser.add_argument("--config", metavar="EDGE.yaml", help="also check the store's disk and reach the fog")
    add_json(parser)
    parser.set_defaults(command=_command)


def examine(config: str | None = None) -> list[Check]:
    """Look at everything; nothing here raises, a failure is a finding.

    Raises:
        ConfigError: ``config`` cannot be used.
    """
    addresses, folder = _read_config(config) if config else ((), Path.cwd())
    checks = [
        Check("python", sys.version_info >= (3, 11), platform.python_version(), platform.python_version()),
        *_guarded("packages", _packages),
        *_guarded("opencv", _opencv),
        *_guarded("profiles", _profiles),
        *_guarded("device", _device),
        *_guarded("nms", _nms),
        *_guarded("memory", _memory),
        *_guarded("disk", lambda: _disk(folder)),
        *_guarded("threads", _threads),
    ]
    if addresses:
        checks += _guarded("fog", lambda: _reach_all(addresses))
    return checks


def _command(arguments: argparse.Namespace) -> int:
    checks = examine(arguments.config)
    healthy = all(check.ok for check in checks)
    if arguments.json:
        print_json({"ok": healthy, "checks": {check.name: _plain(check) for check in checks}})
    else:
        for check in checks:
            sys.stdout.write(f"{'ok  ' if check.ok else 'FAIL'}  {check.name:<10} {check.detail}\n")
    return 0 if healthy else 1


def _plain(check: Check) -> dict[str, Any]:
    return {key: value for key, value in asdict(check).items() if key != "name"}


def _guarded(name: str, look: Callable[[], Check]) -> list[Check]:
    try:
        return [look()]
    except Exception as error:  # a broken installation raises anything; the point is to report it
        return [
            Check(name, False, f"cannot be checked: {' '.join(f'{type(error).__name__}: {error}'.split())}")
        ]


def _read_config(config: str) -> tuple[tuple[str, ...], Path]:
    from common.node.settings import load_node_settings, resolve
    from edge_node.settings import EdgeSettings

    settings, base = load_node_settings(config, EdgeSettings)
    addresses = tuple(fog.address for fog in settings.fogs) or (settings.fog.address,)
    return addresses, resolve(base, settings.store)


def _packages() -> Check:
    versions: dict[str, str | None] = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    # Without Triton the product decodes through plain torch, so its absence is no fault.
    missing = [name for name, version in versions.items() if version is None and name != "triton"]
    found = ", ".join(f"{name} {version or 'absent'}" for name, version in versions.items())
    if missing:
        return Check(
            "packages", False, f"{', '.join(missing)} missing: install residual-inr again ({found})", versions
        )
    return Check("packages", True, found, versions)


def _opencv() -> Check:
    try:
        import cv2
    except ImportError as error:
        mend = (
            "OpenCV needs the system's libGL and libglib: on Debian or Ubuntu run "
            f"'apt-get install libgl1 libglib2.0-0' ({error})"
        )
        return Check("opencv", False, mend)
    return Check("opencv", True, f"imports, version {cv2.__version__}", cv2.__version__)


def _profiles() -> Check:
    """Which representations of frames can be decoded: each by a small picture."""
    import numpy as np

    from common.bitstream.image_files import CODECS, image_file, image_pixels
    from common.errors import ResidualInrError
    from common.pyramid.model import default_model

    works, lacking = ["siren"], []
    try:
        works.append(f"pyramid (model {default_model().id.hex()})")
    except ResidualInrError as error:
        lacking.append(f"pyramid: {error}")
    for codec in CODECS:
        try:
            image_pixels(image_file(np.full((16, 16, 3), 99, np.uint8), codec, 50), 16, 16)
            works.append(codec)
        except ResidualInrError:
            lacking.append(f"{codec}: Pillow is built without it; install Pillow 11.3 or later from a wheel")
    names = [work.split()[0] for work in works]
    detail = f"decodes {', '.join(works)}" + "".join(f"; lacks {sentence}" for sentence in lacking)
    return Check("profiles", not lacking, detail, names)


def _device() -> Check:
    import torch

    if not torch.cuda.is_available():
        built = f"torch is built for CUDA {torch.version.cuda}" if torch.version.cuda else "torch has no CUDA"
        return Check(
            "device", True, f"cpu ({platform.machine()}); {built}, no CUDA device was found", {"type": "cpu"}
        )
    free, total = torch.cuda.mem_get_info(0)
    name = torch.cuda.get_device_name(0)
    value = {
        "type": "cuda",
        "name": name,
        "count": torch.cuda.device_count(),
        "cuda": torch.version.cuda,
        "free_bytes": free,
        "total_bytes": total,
    }
    memory = f"{free / 1e9:.1f} of {total / 1e9:.1f} GB free"
    detail = f"{torch.cuda.device_count()} x {name}, CUDA {torch.version.cuda}, {memory}"
    return Check("device", True, detail, value)


def _nms() -> Check:
    import torch
    from torchvision.ops import nms

    devices = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [1.0, 1.0, 11.0, 11.0], [50.0, 50.0, 60.0, 60.0]])
    scores = torch.tensor([0.9, 0.8, 0.7])
    for device in devices:
        kept = nms(boxes.to(device), scores.to(device), 0.5).tolist()
        if kept != [0, 2]:
            return Check(
                "nms", False, f"torchvision's NMS on {device} keeps {kept} of a test that must keep [0, 2]"
            )
    return Check(
        "nms", True, f"torchvision's non-maximum suppression works on {' and '.join(devices)}", devices
    )


def _memory() -> Check:
    free, total = _memory_bytes()
    detail = f"{free / 1e9:.1f} of {total / 1e9:.1f} GB free"
    if free < LOW_MEMORY_BYTES:
        detail += "; training needs about 2 GB: end other programs or lower batch and imgsz"
    return Check("memory", free >= LOW_MEMORY_BYTES, detail, {"free_bytes": free, "total_bytes": total})


def _memory_bytes() -> tuple[int, int]:
    """(available, total); available counts what the system would give up for us."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        fields = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines}
        return fields["MemAvailable"], fields["MemTotal"]
    except (OSError, KeyError, ValueError, IndexError):
        page = os.sysconf("SC_PAGE_SIZE")
        return page * os.sysconf("SC_AVPHYS_PAGES"), page * os.sysconf("SC_PHYS_PAGES")


def _disk(folder: Path) -> Check:
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    usage = shutil.disk_usage(there)
    detail = f"{usage.free / 1e9:.1f} of {usage.total / 1e9:.1f} GB free at {there}"
    if usage.free < LOW_DISK_BYTES:
        detail += "; make room or move the store"
    return Check(
        "disk", usage.free >= LOW_DISK_BYTES, detail, {"free_bytes": usage.free, "total_bytes": usage.total}
    )


def _threads() -> Check:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = os.environ.get("OMP_NUM_THREADS")
    detail = f"{usable} usable CPUs" + (f"; OMP_NUM_THREADS={limit} limits torch" if limit else "")
    return Check("threads", True, detail, usable)


def _reach_all(addresses: Sequence[str]) -> Check:
    """One finding for all fogs: the failures, or that all can be reached."""
    if len(addresses) == 1:
        return _reach(addresses[0])
    found = [_reach(address) for address in addresses]
    failures = [check.detail for check in found if not check.ok]
    detail = "; ".join(failures) or f"{', '.join(addresses)} accept connections (edge-node run checks keys)"
    return Check("fog", not failures, detail, {check.value: check.ok for check in found})


def _reach(address: str) -> Check:
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), CONNECT_TIMEOUT_S):
            return Check(
                "fog", True, f"{address} accepts connections (its key is checked by edge-node run)", address
            )
    except (OSError, ValueError) as error:
        why = reason(error)
        detail = f"cannot connect to {address}: {why}; check fog.address, that the fog runs, and firewalls"
        return Check("fog", False, detail, address)
