"""``python -m simulations.chaos.worker``: one run in a process of its own, which may mount small disks.

It is started by the campaign, under ``unshare --mount`` where it may: then what it mounts goes with it.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from simulations.chaos.deployment import Options
from simulations.chaos.plan import FaultKind, draw_plan
from simulations.chaos.run import run_plan
from simulations.processes import termination_as_interrupt

__all__ = ["MODULE", "main", "task"]

MODULE = "simulations.chaos.worker"


def task(
    seed: int, folder: Path, options: Options, without: tuple[FaultKind, ...], timeline: bool, short: bool
) -> dict[str, Any]:
    """What a worker reads from its stdin, as JSON.

    Args:
        seed: Of the run.
        folder: For its files.
        options: Of the campaign.
        without: Faults that cannot be done here.
        timeline: Whether to draw ``timeline.png`` even when all is well.
        short: Whether frames are few, as for real encoding.
    """
    return {
        "seed": seed,
        "folder": str(folder),
        "profile": options.profile,
        "clock_shim": None if options.clock_shim is None else str(options.clock_shim),
        "disks": options.disks,
        "cables_bytes_per_s": options.cables_bytes_per_s,
        "drain_s": options.drain_s,
        "train": options.train,
        "without": [kind.value for kind in without],
        "timeline": timeline,
        "short": short,
    }


def main() -> int:
    """Run the task on stdin and print its result as one line of JSON; returns the exit code."""
    argparse.ArgumentParser(prog=f"python -m {MODULE}", description=__doc__).parse_args()
    value = json.load(sys.stdin)
    options = Options(
        profile=value["profile"],
        clock_shim=None if value["clock_shim"] is None else Path(value["clock_shim"]),
        disks=value["disks"],
        cables_bytes_per_s=value["cables_bytes_per_s"],
        drain_s=value["drain_s"],
        train=value["train"],
    )
    frames = (4, 8) if value["short"] else (12, 30)
    plan = draw_plan(
        value["seed"],
        without=[FaultKind(kind) for kind in value["without"]],
        frames=frames,
        # A cable ends at one fog.
        most_fogs=1 if options.cables_bytes_per_s is not None else 2,
    )
    folder = Path(value["folder"])
    try:
        with termination_as_interrupt():
            result = run_plan(plan, folder, options)
    except KeyboardInterrupt:
        return 130
    if value["timeline"] or not result.good:
        from simulations.chaos.timeline import draw_timeline

        draw_timeline(result, folder / "timeline.png")
    sys.stdout.write(json.dumps(result.to_json()) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
