"""The fog's store without a fog: commits groups of frames as quickly as its disk takes them.

    python -m delivery.store_alone FOLDER SIZE

Each line on stdin, ``FIRST COUNT GROUP``, is one measurement; the answer is its seconds.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from common.store import open_fog_store
from delivery.peers import make_frames, noise

__all__ = ["serve"]

DEVICE = "d" * 40
IMAGES = 64


def serve(folder: Path, size: int) -> None:
    """Measure until stdin ends."""
    images = noise(IMAGES, size, seed=1)
    with open_fog_store(folder) as store:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        for line in sys.stdin:
            first, count, group = map(int, line.split())
            frames = make_frames(DEVICE, images, first, count)
            start = time.perf_counter()
            for at in range(0, count, group):
                store.commit_frames(frames[at : at + group])
            sys.stdout.write(f"{time.perf_counter() - start}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    serve(Path(sys.argv[1]), int(sys.argv[2]))
