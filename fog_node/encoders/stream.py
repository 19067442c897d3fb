"""When a device's frames refer to a keyframe and when a new one begins: pure decisions by bytes.

A keyframe costs its bytes once; every frame that refers to it costs what has changed since, and that grows.
The mean over all of them is least when a new keyframe begins as soon as the next reference would cost more
than the mean so far. What is counted are the bytes of backgrounds: objects cost the same either way.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["Stream", "keyframe_gain_db"]

SURE_SHARE = 0.5
"""A reference below this share of the last still is taken without encoding the frame as a still, too."""
FIRST_LIFE = 6.0
"""Frames that a keyframe is taken to last before that is known."""
SHORT_LIFE = 2.0
"""Frames of a keyframe that is worth no more than a still: it serves one other."""
OCTAVE_DB = 3.0
"""Quality that twice the bytes buy, dB, roughly; four clips were between 1.9 and 6."""
NEWEST_LIFE = 0.5
"""Weight of the newest keyframe in the mean life of a device's keyframes."""


@dataclass(slots=True)
class Stream:
    """One device's keyframe as far as its bytes go.

    Attributes:
        still_bytes: Background bytes of the keyframe.
        spent: Background bytes of the keyframe and all frames that refer to it.
        frames: Their number, the keyframe included; 0 without one.
        life: Mean number of frames of a keyframe; None before the second.
    """

    still_bytes: int = 0
    spent: int = 0
    frames: int = 0
    life: float | None = None

    def is_sure(self, reference_bytes: int) -> bool:
        """Whether a reference of so many bytes is taken without asking what a still would cost."""
        if not self.frames or reference_bytes > SURE_SHARE * self.still_bytes:
            return False
        return reference_bytes <= self.spent / self.frames

    def prefers_reference(self, reference_bytes: int, still_bytes: int, gain_db: float = 0.0) -> bool:
        """Whether a frame is sent as a reference.

        The mean so far is that of a scene whose stills took as many bytes as the keyframe: it is scaled to
        what they take now. What a reference must stay below is a still that just meets the target.

        Args:
            reference_bytes: What it takes.
            still_bytes: What the frame takes as a keyframe.
            gain_db: How far above the target that keyframe is.
        """
        if not self.frames or reference_bytes >= still_bytes * 2 ** (-gain_db / OCTAVE_DB):
            return False
        mean = self.spent / self.frames
        return reference_bytes <= mean * still_bytes / max(1, self.still_bytes)

    def referred(self, reference_bytes: int) -> None:
        """A frame has been sent as a reference."""
        self.spent += reference_bytes
        self.frames += 1

    def began(self, still_bytes: int) -> None:
        """A frame has been sent as a still, and is the keyframe from now on."""
        if self.frames:
            share = NEWEST_LIFE if self.life is not None else 1.0
            self.life = share * self.frames + (1 - share) * (self.life or 0.0)
        self.still_bytes = self.spent = still_bytes
        self.frames = 1


def keyframe_gain_db(life: float | None, per_doubling: float, most: float) -> float:
    """How far above the target a new keyframe aims, dB: the more, the longer a device's keyframes last.

    Args:
        life: Mean number of frames of a keyframe; None when it is not known yet.
        per_doubling: For each doubling of the life beyond two frames.
        most: At most this.
    """
    return min(most, per_doubling * math.log2(max(1.0, (FIRST_LIFE if life is None else life) / SHORT_LIFE)))
