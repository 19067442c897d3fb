"""Real daemons as real processes with real CURVE keys in a temporary folder."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import yaml

from common.images import encode_jpeg
from common.node.status_file import read_status
from common.wire import keys
from common.wire.allow_list import AllowList, Device

ROOT = Path(__file__).resolve().parents[1]

QUICK_WIRE = {
    "heartbeat_seconds": 0.2,
    "liveness": 10,
    "backoff_first_seconds": 0.05,
    "backoff_last_seconds": 0.3,
}


def deep_merge(base, changes):
    merged = dict(base)
    for key, value in changes.items():
        if isinstance(value, dict) and isinstance(merged.get(key), dict):
            merged[key] = deep_merge(merged[key], value)
        else:
            merged[key] = value
    return merged


class Node:
    """A daemon that can be started, asked, stopped and killed."""

    def __init__(self, folder, module, command, settings):
        self.folder = folder
        self.module = module
        self.command = command
        folder.mkdir(parents=True, exist_ok=True)
        self.keys = keys.generate(folder / "keys")
        self.settings = settings
        self.config = folder / "node.yaml"
        self.log = folder / "log.txt"
        self.process = None

    @property
    def store(self):
        return self.folder / "store"

    def start(self, **changes):
        self.settings = deep_merge(self.settings, changes)
        self.config.write_text(yaml.safe_dump(self.settings))
        (self.store / "status.json").unlink(missing_ok=True)
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
        }
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", self.module, self.command, "--config", str(self.config)],
                stdout=subprocess.DEVNULL,
                stderr=log,
                env=environment,
            )
        return self

    def status(self):
        return read_status(self.store)

    def wait_for(self, condition, what, timeout=30.0):
        """Wait until the status meets a condition."""
        end = time.monotonic() + timeout
        status = None
        while time.monotonic() < end:
            try:
                status = self.status()
                if status["pid"] == self.process.pid and condition(status):
                    return status
            except Exception:
                pass
            if self.process.poll() is not None:
                raise AssertionError(f"{self.module} ended with {self.process.returncode}: {self.text()}")
            time.sleep(0.02)
        raise AssertionError(f"waited for {what}: {json.dumps(status)}\n{self.text()}")

    def wait_for_log(self, text, timeout=30.0):
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            if text in self.text():
                return
            time.sleep(0.02)
        raise AssertionError(f"waited for {text!r} in the log: {self.text()}")

    def text(self):
        return self.log.read_text() if self.log.exists() else ""

    def kill(self):
        self.process.kill()
        self.process.wait()

    def terminate(self, number=signal.SIGTERM, timeout=30.0):
        self.process.send_signal(number)
        return self.process.wait(timeout)

    def end(self):
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()


class Deployment:
    """A fog and edges on this machine."""

    def __init__(self, folder):
        self.folder = folder
        self.allow = AllowList(folder / "fog" / "allow.yaml")
        self.nodes = []
        self.fog = self._node(
            "fog",
            "fog_node.cli",
            "serve",
            {
                "address": "tcp://127.0.0.1:0",
                "workers": {"module": "stub_encoder", "wait_s": 0.02},
                "training": {"strategy": "edge"},
                "wire": QUICK_WIRE,
                "storage": {"min_free_bytes": 0},
                "children": {"restart_first_s": 0.05, "restart_max_s": 0.2, "stop_s": 2.0},
                "allow_check_s": 0.1,
                "monitoring": {"port": 0},
                "status_s": 0.05,
                "retry_full_s": 0.2,
            },
        )

    def _node(self, name, module, command, settings):
        node = Node(self.folder / name, module, command, settings)
        self.nodes.append(node)
        return node

    def start_fog(self, **changes):
        self.fog.start(**changes)
        status = self.fog.wait_for(lambda status: status["port"] > 0, "the fog's port")
        # The same port after a restart, as a real fog has.
        self.fog.settings["address"] = f"tcp://127.0.0.1:{status['port']}"
        return self.fog

    def edge(self, name, sources=(), *, allowed=True, upload=True, subscribe=("*",), **settings):
        base = {
            "fog": {"address": self.fog.settings["address"], "public_key": self.fog.keys.public},
            "sources": [{"path": str(path)} for path in sources],
            "training": {"mode": "never"},
            "wire": QUICK_WIRE,
            "storage": {"min_free_bytes": 0},
            "monitoring": {"port": 0},
            "status_s": 0.05,
        }
        node = self._node(name, "edge_node.cli", "run", deep_merge(base, settings))
        if allowed:
            self.allow.add(Device(node.keys.public, upload, tuple(subscribe), name))
        return node

    def end(self):
        for node in self.nodes:
            node.end()


def write_frames(folder, photo, names, start=0):
    """A sequence folder whose frames all differ, each with one box."""
    images = folder / "img"
    images.mkdir(parents=True, exist_ok=True)
    lines = []
    for index, name in enumerate(names):
        picture = photo.copy()
        picture[: 8 + (start + index) % 32, :, 0] ^= 1 + (start + index) % 127
        (images / f"{name}.jpg").write_bytes(encode_jpeg(picture, 90))
        lines.append(f"{10 + index % 20},10,20,15")
    (folder / "groundtruth_rect.txt").write_text("\n".join(lines) + "\n")
    return folder
