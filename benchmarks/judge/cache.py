"""What was measured is kept: one JSON file and one packet file a measurement, named by what it depends on.

A key is the SHA-256 of everything that can change the result: the frame's bytes and boxes, the profile, every
setting, the model files, the versions of the libraries that compute pixels, and the program's own sources
(:func:`source_digest`). A run that is stopped finds what it had done; a change of the codec measures anew.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from common.frame import Frame

__all__ = ["Cache", "key_of", "source_digest"]

PACKAGES = ("common", "fog_node", "edge_node")
"""Packages whose sources are part of a key when a codec imports them."""
DATA_SUFFIXES = frozenset({".npz", ".npy", ".safetensors", ".bin", ".yaml", ".json"})
"""Files beside a module that a codec may read: tables and networks shipped with it."""


def key_of(frame: Frame, what: Mapping[str, Any]) -> str:
    """Key of a measurement of ``frame``: hexadecimal, 64 characters.

    Args:
        frame: Its image bytes and boxes count, its name does not.
        what: Everything else that the result depends on; plain values.
    """
    boxes = [(box.x0, box.y0, box.x1, box.y1, box.name) for box in frame.boxes]
    parts = {"frame": frame.digest.hex(), "boxes": boxes, **what}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def source_digest(modules: Iterable[str], without: Iterable[str] = ()) -> str:
    """Digest of the sources of ``modules`` and of every module of this program that they import.

    Comments, docstrings and layout do not count: only what the interpreter would run does.

    Args:
        modules: Names of the modules to begin with.
        without: Modules whose name holds one of these words are left out, with what only they import.
    """
    return _source_digest(tuple(sorted(modules)), tuple(sorted(without)))


@cache
def _source_digest(modules: tuple[str, ...], without: tuple[str, ...]) -> str:
    pending, found = list(modules), dict[str, Path]()
    while pending:
        name = pending.pop()
        if name in found or any(word in name for word in without):
            continue
        path = _file_of(name)
        if path is None:
            continue
        found[name] = path
        pending += _imports(path)
        pending += [name.rsplit(".", 1)[0]] if "." in name else []
    digest = hashlib.sha256()
    for name, path in sorted(found.items()):
        digest.update(f"{name}\n{_program_text(path)}\n".encode())
    data = {
        file
        for path in found.values()
        for file in path.parent.iterdir()
        if file.suffix in DATA_SUFFIXES and not any(word in str(file) for word in without)
    }
    for file in sorted(data):
        digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()


def _file_of(name: str) -> Path | None:
    """The source file of a module of this program; None for anything else."""
    if name.split(".")[0] not in PACKAGES:
        return None
    try:
        spec = importlib.util.find_spec(name)
    except ModuleNotFoundError:  # a name inside a module, not a module
        return None
    return Path(spec.origin) if spec is not None and spec.origin is not None else None


def _imports(path: Path) -> list[str]:
    """Every module that ``path`` may import, and names that may be modules."""
    names = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return names


def _program_text(path: Path) -> str:
    """The program in ``path`` without comments, docstrings and layout."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [part for part in node.body if not _is_text(part)]
    return ast.dump(tree)


def _is_text(node: ast.stmt) -> bool:
    """Whether a statement is a bare string: a docstring or the description of an attribute."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


@dataclass(frozen=True, slots=True)
class Cache:
    """A folder of measurements.

    Attributes:
        folder: Made when the first measurement is kept.
    """

    folder: Path

    def get(self, key: str) -> dict[str, Any] | None:
        """The measurement kept under ``key``; None when there is none, or its file is damaged."""
        try:
            value = json.loads(self.path(key, ".json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return value if isinstance(value, dict) else None

    def put(self, key: str, value: Mapping[str, Any]) -> None:
        """Keep a measurement; it is there wholly or not at all."""
        self.put_file(key, ".json", json.dumps(value, allow_nan=False).encode())

    def put_file(self, key: str, suffix: str, data: bytes) -> Path:
        """Keep a file under ``key``, and return its path."""
        path = self.path(key, suffix)
        path.parent.mkdir(parents=True, exist_ok=True)
        # Two processes may measure the same thing: each writes a file of its own and the last one stays.
        temporary = path.with_name(f"{path.name}.{os.getpid()}")
        temporary.write_bytes(data)
        temporary.replace(path)
        return path

    def path(self, key: str, suffix: str) -> Path:
        """Where the file of ``key`` with this suffix is, or would be."""
        return self.folder / key[:2] / f"{key}{suffix}"
