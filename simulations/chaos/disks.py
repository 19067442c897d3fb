"""Small file systems that are filled up, and files that are damaged."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from common.errors import DeploymentError

__all__ = ["SmallDisk", "damage_file"]

SECTOR_BYTES = 512


class SmallDisk:
    """A file system in memory at a folder; needs the right to mount.

    Args:
        place: Empty folder.
        size_bytes: Of the file system.

    Raises:
        DeploymentError: It cannot be mounted here.
    """

    def __init__(self, place: Path, size_bytes: int) -> None:
        self._place = place
        command = ["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", str(place)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except OSError as error:
            raise DeploymentError(f"no small disk can be mounted here: {error}") from error
        if done.returncode:
            raise DeploymentError(f"no small disk can be mounted here: {done.stderr.strip()}")

    @contextlib.contextmanager
    def filled(self, left: int) -> Iterator[None]:
        """While this lasts at most ``left`` bytes are free, or as many as others give back."""
        with tempfile.NamedTemporaryFile(dir=self._place, prefix="filler-") as handle:
            size = shutil.disk_usage(self._place).free - left
            # Others may take room meanwhile: then less is there to be taken.
            while size > 0:
                try:
                    os.posix_fallocate(handle.fileno(), 0, size)
                    break
                except OSError:
                    size -= 1 << 16
            yield

    def close(self) -> None:
        """Unmount it; what is on it is gone."""
        subprocess.run(["umount", "--lazy", str(self._place)], capture_output=True, check=False)


def damage_file(path: Path, source: random.Random) -> str:
    """Flip bits, lose sectors, or cut the end off; says which in a few words.

    Args:
        path: A file of at least one sector that nobody has open.
        source: Draws what and where.
    """
    size = path.stat().st_size
    what = source.choice(["bits", "bits", "bits", "sectors", "end"])
    if what == "end":
        kept = source.randrange(size // 4, size)
        os.truncate(path, kept)
        return f"the last {size - kept} of {size} bytes cut off"
    count = source.choice([1, 1, 2, 4, 16]) if what == "bits" else source.choice([1, 2])
    with path.open("r+b") as handle:
        for _ in range(count):
            if what == "bits":
                offset = source.randrange(size)
                handle.seek(offset)
                old = handle.read(1)[0]
                handle.seek(offset)
                handle.write(bytes([old ^ 1 << source.randrange(8)]))
            else:
                handle.seek(source.randrange(size // SECTOR_BYTES) * SECTOR_BYTES)
                handle.write(bytes(SECTOR_BYTES))
    return f"{count} {what} of {size} bytes {'flipped' if what == 'bits' else 'set to zero'}"
