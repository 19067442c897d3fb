"""How quickly batches are decoded while a detector trains."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch

__all__ = ["DecodeMeter"]

EVERY = 16
"""On an accelerator one batch in so many is timed: it must wait for the device twice."""

T = TypeVar("T")


@dataclass(slots=True)
class DecodeMeter:
    """Times the decoding of batches.

    Attributes:
        device: Where batches are decoded.
        frames: Frames decoded.
    """

    device: torch.device
    frames: int = 0
    _batches: int = 0
    _timed_frames: int = 0
    _timed_seconds: float = 0.0

    def measure(self, frames: int, decode: Callable[[], T]) -> T:
        """The result of ``decode``, which decodes a batch of ``frames``."""
        waits = self.device.type != "cpu"
        timed = not waits or self._batches % EVERY == 0
        self._batches += 1
        self.frames += frames
        if not timed:
            return decode()
        if waits:
            torch.accelerator.synchronize(self.device)
        start = time.perf_counter()
        result = decode()
        if waits:
            torch.accelerator.synchronize(self.device)
        self._timed_seconds += time.perf_counter() - start
        self._timed_frames += frames
        return result

    def frames_per_second(self) -> float | None:
        """Frames decoded a second, or None before the first batch."""
        return self._timed_frames / self._timed_seconds if self._timed_seconds > 0 else None

    def seconds(self) -> float:
        """Seconds of all decoding so far; on an accelerator by the timed batches."""
        rate = self.frames_per_second()
        return self.frames / rate if rate else 0.0
