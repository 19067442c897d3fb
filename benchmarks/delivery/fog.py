"""A real fog daemon as a child process, with devices that it knows."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from common.errors import DeploymentError
from common.node.status_file import read_status
from common.store import open_fog_store
from common.store.records import RecordKind
from common.wire import keys
from common.wire.allow_list import AllowList, Device

__all__ = ["META", "START_S", "Fog", "add_devices", "finish_all", "running_fog"]

START_S = 60.0
"""Seconds for a node to listen, and of silence before it is given up."""

HERE = Path(__file__).resolve().parents[1]

META = {"labelled": True, "validation": False, "boxes": [["object", 10, 20, 60, 90]], "profile": "pyramid"}
"""What a packet's record says beside it, about."""


class Fog:
    """A running fog daemon.

    Attributes:
        key: Its public key.
        address: Where it listens.
        pid: Its process.
    """

    def __init__(self, folder: Path, process: subprocess.Popen[bytes], key: str) -> None:
        self._folder = folder
        self._process = process
        self.key = key
        self.pid = process.pid
        self.address = f"tcp://127.0.0.1:{self._port()}"

    def _port(self) -> int:
        end = time.monotonic() + START_S
        while time.monotonic() < end and self._process.poll() is None:
            try:
                status = read_status(self._folder / "store")
                if status["pid"] == self._process.pid and status["port"]:
                    return int(status["port"])
            except Exception:  # not written yet, or by the run before
                time.sleep(0.05)
        raise DeploymentError(f"the fog in {self._folder} did not start; see its log.txt")

    def cpu_s(self) -> float:
        """CPU seconds of its process so far, its children left out."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def status(self) -> dict[str, Any]:
        """Its status file."""
        return read_status(self._folder / "store")


def add_devices(fog_folder: Path, folder: Path, count: int) -> list[keys.KeyPair]:
    """Make keys of ``count`` devices below ``folder`` and let them do everything at the fog."""
    fog_folder.mkdir(parents=True, exist_ok=True)
    allow = AllowList(fog_folder / "allow.yaml")
    pairs = [keys.generate(folder / f"device{number}") for number in range(count)]
    for pair in pairs:
        allow.add(Device(pair.public, may_upload=True, may_subscribe=("*",)))
    return pairs


@contextmanager
def running_fog(folder: Path, settings: Mapping[str, Any] | None = None) -> Iterator[Fog]:
    """A fog with its store in ``folder``, made when missing; its encoders take frames and do nothing.

    Args:
        folder: Holds its keys, allow list and store.
        settings: Of fog.yaml, beside those.
    """
    if not (folder / "keys").is_dir():
        keys.generate(folder / "keys")
    chosen = {
        "address": "tcp://127.0.0.1:0",
        "workers": {"module": "idle_encoder"},
        "training": {"strategy": "edge"},
        "status_s": 0.2,
        **(settings or {}),
    }
    (folder / "fog.yaml").write_text(yaml.safe_dump(chosen))
    (folder / "store" / "status.json").unlink(missing_ok=True)
    path = os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH")]))
    with (folder / "log.txt").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "fog_node.cli", "serve", "--config", str(folder / "fog.yaml")],
            stdout=subprocess.DEVNULL,
            stderr=log,
            env={**os.environ, "PYTHONPATH": path},
        )
    try:
        yield Fog(folder, process, keys.load(folder / "keys").public)
    finally:
        process.terminate()
        process.wait()


def finish_all(store_folder: Path, size: int) -> None:
    """Give every frame of a fog's store a packet of ``size`` bytes, as the encoders would."""
    with open_fog_store(store_folder) as store:
        for item in store.pending_frames(10**9):
            store.finish(item.identity, RecordKind.PACKET, META, os.urandom(size))
