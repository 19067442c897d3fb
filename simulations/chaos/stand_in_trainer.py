"""``python -m simulations.chaos.stand_in_trainer``: a trainer process that writes weights without training.

What is tested is that a trainer that dies or hangs harms nothing, and that large payloads arrive whole. An
environment variable may say how large they are.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from common.node.learning_messages import (
    Check,
    Checked,
    Judge,
    Progress,
    Ready,
    Result,
    Start,
    Stop,
    Train,
    from_map,
    to_map,
)
from common.node.pipe import connect_parent

__all__ = ["MODULE", "ROUND_S", "WEIGHTS_VARIABLE", "main"]

MODULE = "simulations.chaos.stand_in_trainer"
"""Value of the nodes' setting ``training.module``."""

STEPS, STEP_S = 5, 0.1
"""A round takes long enough to be killed in."""

ROUND_S = STEPS * STEP_S
"""Seconds of a round."""

WEIGHTS_BYTES = 220_000
"""More than travels in one message."""

WEIGHTS_VARIABLE = "STAND_IN_WEIGHTS_BYTES"
"""Environment variable with another number of bytes."""


def main() -> int:
    """Answer the daemon until it says stop; returns the exit code."""
    pipe = connect_parent()
    folder, role, rounds = Path(), "", 0
    size = int(os.environ.get(WEIGHTS_VARIABLE, WEIGHTS_BYTES))
    while (value := pipe.receive()) is not None:
        match from_map(value):
            case Start(role, _, work_dir, _):
                folder = Path(work_dir)
                folder.mkdir(parents=True, exist_ok=True)
                pipe.send(to_map(Ready()))
            case Train():
                rounds += 1
                for step in range(STEPS):
                    time.sleep(STEP_S)
                    pipe.send(to_map(Progress(step + 1, STEPS, 0.5)))
                weights = folder / "round.safetensors"
                text = f"{role} {time.monotonic_ns()} ".encode()
                weights.write_bytes((text * (size // len(text) + 1))[:size])
                metrics = {"map50": 0.5, "map50_95": 0.3, "seconds": ROUND_S}
                pipe.send(to_map(Result(True, "it is better", str(weights), metrics)))
            case Judge(_, judged):
                pipe.send(to_map(Result(True, "it is not worse", judged, {"map50": 0.5})))
            case Check():
                pipe.send(to_map(Checked(False, "it is kept", 0.9)))
            case Stop():
                return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
