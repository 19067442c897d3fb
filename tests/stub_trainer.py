"""A trainer process without torch: ``python -m stub_trainer``, for tests of the daemons.

Each round writes other weights of 200 kB and lets them through; a judgement lets through what it is given;
a check finds the weights of a second round worse than those before.
"""

import sys
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


def main():
    pipe = connect_parent()
    work_dir = rounds = None
    while (value := pipe.receive()) is not None:
        match from_map(value):
            case Start(role, _, folder, _):
                work_dir, rounds = Path(folder), 0
                work_dir.mkdir(parents=True, exist_ok=True)
                pipe.send(to_map(Ready()))
            case Train():
                rounds += 1
                weights = work_dir / "round.safetensors"
                weights.write_bytes(f"{role} weights {rounds} ".encode() * 15_000)
                pipe.send(to_map(Progress(1, 1, 0.5)))
                metrics = {"map50": 0.6, "map50_95": 0.4, "seconds": 2.5}
                pipe.send(to_map(Result(True, "it is better", str(weights), metrics)))
            case Judge(_, weights):
                pipe.send(to_map(Result(True, "it is not worse", weights, {"map50": 0.7})))
            case Check(detector, previous):
                worse = previous is not None and b"weights 2" in Path(detector).read_bytes()
                reason = "rolled back: it is worse" if worse else "it is kept"
                pipe.send(to_map(Checked(worse, reason, 0.9)))
            case Stop():
                return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
