"""What is left of a process's files when the power goes: what was synced, of the rest what a seed says."""

from __future__ import annotations

import dataclasses
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

SHIM = Path(__file__).parent / "common" / "store" / "power_loss_shim.c"
ROOT = Path(__file__).resolve().parents[1]

HEAD = struct.Struct("<cIIIQQ")

SECTOR = 512
"""What a disk writes whole, bytes."""


def build_shim(folder):
    """The compiled shim, or a reason why there is none."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None or not sys.platform.startswith("linux"):
        return None, "a C compiler on Linux is needed"
    library = folder / "power_loss_shim.so"
    command = [compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(SHIM), "-ldl", "-lpthread"]
    done = subprocess.run(command, capture_output=True, text=True)
    return (library, "") if done.returncode == 0 else (None, f"the shim cannot be compiled: {done.stderr}")


def record(library, root, trace, script, *arguments):
    """Run a script; the trace holds what it did below ``root``."""
    root.mkdir()
    environment = {
        **os.environ,
        "LD_PRELOAD": str(library),
        "POWER_LOSS_ROOT": str(root),
        "POWER_LOSS_TRACE": str(trace),
        "PYTHONPATH": str(ROOT),
    }
    subprocess.run(
        [sys.executable, "-c", script, str(root), *arguments], env=environment, check=True, cwd=ROOT
    )


@dataclasses.dataclass(frozen=True)
class Step:
    """One operation: c(reate), d (mkdir), w(rite), t(runcate), s(ync), r(ename), u(nlink)."""

    operation: str
    path: str
    other: str
    inode: int
    offset: int
    data: bytes


def steps_of(trace, root):
    """The operations of a trace; paths are relative to the root, which itself is ``.``."""
    data, at, steps = trace.read_bytes(), 0, []

    def relative(raw):
        return os.path.relpath(raw.decode(), root) if raw else ""

    while at < len(data):
        operation, one, two, size, inode, offset = HEAD.unpack_from(data, at)
        at += HEAD.size
        parts = []
        for length in (one, two, size):
            parts.append(data[at : at + length])
            at += length
        path = parts[0].removesuffix(b" (deleted)")
        steps.append(Step(operation.decode(), relative(path), relative(parts[1]), inode, offset, parts[2]))
    return steps


class File:
    """Synced bytes, and what was done since."""

    def __init__(self):
        self.data = bytearray()
        self.pending = []

    def apply(self, step):
        if step.operation == "t":
            del self.data[step.offset :]
            self.data.extend(bytes(step.offset - len(self.data)))
            return
        self.data.extend(bytes(max(0, step.offset + len(step.data) - len(self.data))))
        self.data[step.offset : step.offset + len(step.data)] = step.data

    def sync(self):
        for step in self.pending:
            self.apply(step)
        self.pending = []

    def tear(self, source):
        """Some sectors of some writes reach the disk, others do not."""
        for step in self.pending:
            if step.operation == "t":
                if source.random() < 0.5:
                    self.apply(step)
                continue
            fate = source.random()
            if fate < 0.4:
                continue
            for start in range(0, len(step.data), SECTOR):
                if fate > 0.8 or source.random() < 0.5:
                    part = step.data[start : start + SECTOR]
                    self.apply(dataclasses.replace(step, offset=step.offset + start, data=part))


class Disk:
    """A disk below one folder: names become durable when their folder is synced, bytes when their file is."""

    def __init__(self):
        self.names = {}
        self.folders = {"."}
        self.durable_names = {}
        self.durable_folders = {"."}
        self.inodes = {}
        self.changes = {}

    def do(self, step):
        match step.operation:
            case "c":
                self.inodes[step.inode] = self.names[step.path] = File()
                self._change(step.path, ("name", step.path, self.names[step.path]))
            case "d":
                self.folders.add(step.path)
                self._change(step.path, ("folder", step.path, None))
            case "w" | "t":
                if step.inode in self.inodes:
                    self.inodes[step.inode].pending.append(step)
            case "r":
                file = self.names.pop(step.path)
                self.names[step.other] = file
                self._change(step.path, ("gone", step.path, None))
                self._change(step.other, ("name", step.other, file))
            case "u":
                if self.names.pop(step.path, None) is not None:
                    self._change(step.path, ("gone", step.path, None))
            case "s":
                if step.path in self.folders:
                    for change in self.changes.pop(step.path, []):
                        self._keep(change)
                elif step.inode in self.inodes:
                    self.inodes[step.inode].sync()

    def _change(self, path, change):
        self.changes.setdefault(str(Path(path).parent), []).append(change)

    def _keep(self, change):
        kind, path, file = change
        if kind == "name":
            self.durable_names[path] = file
        elif kind == "folder":
            self.durable_folders.add(path)
        else:
            self.durable_names.pop(path, None)

    def cut_power(self, source, folder):
        """Write what is left into a new folder."""
        for changes in self.changes.values():
            # A journal keeps the order of names within a folder.
            for change in changes[: source.randrange(len(changes) + 1)]:
                self._keep(change)
        for file in {id(file): file for file in self.durable_names.values()}.values():
            file.tear(source)
        folder.mkdir(parents=True)
        for name in sorted(self.durable_folders):
            if all(str(parent) in self.durable_folders for parent in Path(name).parents):
                (folder / name).mkdir(exist_ok=True)
        for path, file in self.durable_names.items():
            if (folder / path).parent.is_dir() and not path.endswith("-shm"):
                (folder / path).write_bytes(file.data)


def after_power_loss(steps, point, source, folder):
    """The files as they may be when the power goes after so many steps."""
    disk = Disk()
    for step in steps[:point]:
        disk.do(step)
    disk.cut_power(source, folder)
