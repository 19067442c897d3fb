"""Wall clocks that jump: each daemon's offset stands in a file that a preloaded library reads."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

__all__ = ["Clock", "build_library"]

SOURCE = Path(__file__).with_name("clock_shim.c")


def build_library(folder: Path) -> tuple[Path | None, str]:
    """Compile the library that shifts wall clocks.

    Returns:
        Its path, or None and the reason why there is none, in one phrase.
    """
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None or not sys.platform.startswith("linux"):
        return None, "a C compiler on Linux is needed to shift a process's clock"
    library = folder / "clock_shim.so"
    if not library.exists():
        fresh = folder / "clock_shim.so.new"
        done = subprocess.run(
            [compiler, "-shared", "-fPIC", "-O2", "-o", str(fresh), str(SOURCE), "-ldl"],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            return None, f"the library that shifts a clock cannot be compiled: {done.stderr.strip()[:300]}"
        fresh.replace(library)
    return library, ""


class Clock:
    """The wall clock of one daemon and its children.

    Args:
        file: Holds the offset.
        library: As :func:`build_library` made it.
    """

    def __init__(self, file: Path, library: Path) -> None:
        self._file = file
        self._library = library
        self.shift(0.0)

    @property
    def environment(self) -> dict[str, str]:
        """Variables that put a process under this clock."""
        return {"LD_PRELOAD": str(self._library), "CHAOS_CLOCK": str(self._file)}

    def shift(self, seconds: float) -> None:
        """From now on the clock is so much ahead of the machine's; negative: behind."""
        data = round(seconds * 1e9).to_bytes(8, sys.byteorder, signed=True)
        # In place: running processes have mapped this very file.
        with self._file.open("r+b" if self._file.exists() else "wb") as handle:
            handle.write(data)
