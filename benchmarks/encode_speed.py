"""Encoding speed against the reference recipe, at equal parameters.

    python benchmarks/encode_speed.py FRAMES.csv [--seconds-a-step 5] [--json]
    python benchmarks/encode_speed.py FRAMES.csv --curve [--steps 10000]

The reference recipe (Residual-INR's code): a SIREN of 28x10 (7,479 parameters), Adam at 2e-4 with cosine
decay, 10,000 steps of the whole image, in floating point. Its PSNR against steps is measured once, with
--curve, on the frames that encode_speed.json names, and kept there with machine and commit; that takes
hours, a stopped run goes on from its checkpoint, and a curve that was not followed to its end says so.
Every other run measures the recipe's seconds a step here and now, and our time (42x5: 7,479 parameters,
too) to the PSNR that the curve has at 1,000, 3,000 and 10,000 steps: the shortest of a series of fits, each
sqrt(2) times as long as the one before, whose annealed end is there. Both fit in floating point, on as many
threads as torch is given.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from common.cli import print_json, run_command
from common.errors import UsageError
from common.images import Rgb
from common.inr.fit import Samples, fit_round, fresh_stack
from common.inr.siren import Architecture, SirenStack
from judge.protocol import ListedFrame, pixels, read_frames

KEPT = Path(__file__).parent / "encode_speed.json"
RECIPE = Architecture(28, 10)
RECIPE_STEPS, RECIPE_RATE = 10_000, 2e-4
CHUNK = 16_384
"""Pixels of the recipe's image at a time: the same gradient in less memory, and faster from the cache."""
OURS = Architecture(42, 5)
OUR_PIXELS, OUR_RATE = 1024, 1.5e-3
MILESTONES = (1_000, 3_000, 10_000)
LOOK_EVERY = 100
"""Steps between points of the curve."""


@dataclass
class Curve:
    """PSNR of the recipe on one frame: ``psnr_db[i]`` after ``steps[i]`` steps."""

    frame: str
    digest: str
    steps: list[int] = field(default_factory=list)
    psnr_db: list[float] = field(default_factory=list)

    @property
    def measured_to(self) -> int:
        """Last step that was measured."""
        return self.steps[-1] if self.steps else 0


class Recipe:
    """The reference recipe on one image; can be saved and taken up again."""

    def __init__(self, image: Rgb) -> None:
        self.xy, self.rgb = _samples(image)
        stack = SirenStack.initialise(RECIPE, 1, torch.Generator().manual_seed(0))
        self.tensors = [t.requires_grad_(True) for t in stack.tensors]
        self.stack = SirenStack(RECIPE, self.tensors[0::2], self.tensors[1::2])
        self.adam = torch.optim.Adam(self.tensors, lr=RECIPE_RATE)
        self.done = 0

    def step(self) -> float:
        """One step of the whole image; returns the squared error before it, over RGB in [0, 1]."""
        for group in self.adam.param_groups:
            group["lr"] = RECIPE_RATE * 0.5 * (1 + math.cos(math.pi * self.done / RECIPE_STEPS))
        self.adam.zero_grad(set_to_none=True)
        total = 0.0
        for at in range(0, self.xy.shape[1], CHUNK):
            output = self.stack.forward(self.xy[:, at : at + CHUNK])
            loss = (output[0] - self.rgb[:, at : at + CHUNK]).square().sum() / self.rgb.numel()
            loss.backward()
            total += float(loss.detach())
        self.adam.step()
        self.done += 1
        return total / 4

    def save(self, path: Path) -> None:
        """Write the state beside ``path`` and put it in its place."""
        state = {
            "tensors": [t.detach() for t in self.tensors],
            "adam": self.adam.state_dict(),
            "done": self.done,
        }
        beside = path.with_suffix(".part")
        torch.save(state, beside)
        beside.replace(path)

    def load(self, path: Path) -> None:
        """Take up the state of :meth:`save`."""
        state = torch.load(path, weights_only=True)
        with torch.no_grad():
            for tensor, saved in zip(self.tensors, state["tensors"], strict=True):
                tensor.copy_(saved)
        self.adam.load_state_dict(state["adam"])
        self.done = state["done"]


def follow(frame: ListedFrame, image: Rgb, curve: Curve, steps: int, checkpoint: Path) -> None:
    """Follow the recipe to ``steps``, writing curve and checkpoint on the way."""
    recipe = Recipe(image)
    if checkpoint.exists():
        recipe.load(checkpoint)
    while recipe.done < steps:
        at = recipe.done
        error = recipe.step()
        if at and at % LOOK_EVERY == 0 and at > curve.measured_to:
            curve.steps.append(at)
            curve.psnr_db.append(round(-10 * math.log10(error), 3))
            recipe.save(checkpoint)
            _keep(curve)
            print(f"{frame.path}: step {at:,}, {curve.psnr_db[-1]:.2f} dB", file=sys.stderr, flush=True)


def seconds_a_step(image: Rgb, count: int) -> float:
    """The recipe's seconds a step, the fastest of ``count`` (others share the machine)."""
    recipe = Recipe(image)
    recipe.step()
    times = []
    for _ in range(count):
        begin = time.perf_counter()
        recipe.step()
        times.append(time.perf_counter() - begin)
    return min(times)


def our_seconds(image: Rgb, psnr_db: float) -> tuple[float, int]:
    """Seconds and steps of the shortest fit of the series that reaches ``psnr_db``."""
    xy, rgb = _samples(image)
    rows = torch.cat([xy.T, rgb.T, torch.ones(xy.shape[1], 1)], 1)
    generator = torch.Generator().manual_seed(0)
    samples = Samples.shuffled([rows], generator)
    steps = 50.0
    while True:
        stack = fresh_stack(OURS, torch.Generator().manual_seed(0), 30.0)
        begin = time.perf_counter()
        fitted = fit_round(stack, samples, steps=round(steps), pixels=OUR_PIXELS, learning_rate=OUR_RATE)
        seconds = time.perf_counter() - begin
        error = float(samples.squared_error(fitted)) / 4
        if -10 * math.log10(error) >= psnr_db:
            return seconds, round(steps)
        steps *= math.sqrt(2)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    return run_command(_parser(), argv)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="encode_speed.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("frames", metavar="FRAMES.csv", type=Path)
    parser.add_argument("--curve", action="store_true", help="follow the recipe instead; hours")
    parser.add_argument("--steps", type=int, default=RECIPE_STEPS, help="where --curve ends (default: 10000)")
    parser.add_argument("--only", metavar="FRAME", help="of the frames of the curve, only this one")
    parser.add_argument("--checkpoints", type=Path, default=Path("out/encode_speed"), metavar="DIR")
    parser.add_argument(
        "--timed-steps", type=int, default=3, metavar="N", help="steps of the recipe that are timed"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.set_defaults(command=_run)
    return parser


def _run(arguments: argparse.Namespace) -> int:
    kept = json.loads(KEPT.read_text())
    listed = {str(frame.path): frame for frame in read_frames(arguments.frames)}
    curves = [Curve(c["frame"], c["digest"], c["steps"], c["psnr_db"]) for c in kept["curves"]]
    if arguments.only:
        curves = [curve for curve in curves if curve.frame == arguments.only]
    missing = [curve.frame for curve in curves if curve.frame not in listed]
    if missing or not curves:
        raise UsageError(
            f"{arguments.frames} lacks frames of the curve: {', '.join(missing) or arguments.only}"
        )
    results = []
    for curve in curves:
        frame = listed[curve.frame]
        image, _ = pixels(frame.frame)
        if frame.frame.digest.hex() != curve.digest:
            raise UsageError(f"{curve.frame} is not the image that the curve was measured on")
        if arguments.curve:
            arguments.checkpoints.mkdir(parents=True, exist_ok=True)
            name = curve.digest[:16] + ".pt"
            follow(frame, image, curve, arguments.steps, arguments.checkpoints / name)
            continue
        if not curve.steps:
            print(f"{curve.frame}: its curve is not measured yet; run --curve", file=sys.stderr)
            continue
        results.append(_measure(curve, image, arguments.timed_steps))
        if not arguments.json:
            _show(results[-1])
    if arguments.json:
        print_json({"machine": _machine(), "curve_machine": kept["machine"], "frames": results})
    return 0


def _measure(curve: Curve, image: Rgb, timed_steps: int) -> dict[str, Any]:
    step = seconds_a_step(image, timed_steps)
    points = []
    for milestone in (*(m for m in MILESTONES if m < curve.measured_to), curve.measured_to):
        psnr = curve.psnr_db[curve.steps.index(milestone)]
        seconds, steps = our_seconds(image, psnr)
        recipe = milestone * step
        points.append(
            {
                "recipe_steps": milestone,
                "psnr_db": psnr,
                "recipe_seconds": recipe,
                "our_seconds": seconds,
                "our_steps": steps,
                "times_faster": recipe / seconds,
            }
        )
    return {
        "frame": curve.frame,
        "curve_measured_to": curve.measured_to,
        "recipe_seconds_a_step": step,
        "points": points,
    }


def _show(result: dict[str, Any]) -> None:
    note = "" if result["curve_measured_to"] >= RECIPE_STEPS - LOOK_EVERY else ", and no further"
    print(
        f"{result['frame']}: recipe {result['recipe_seconds_a_step']:.3f} s a step; "
        f"curve measured to step {result['curve_measured_to']:,}{note}"
    )
    for p in result["points"]:
        print(
            f"  {p['recipe_steps']:6,} steps, {p['psnr_db']:.2f} dB: recipe {p['recipe_seconds']:8,.0f} s, "
            f"ours {p['our_seconds']:6.1f} s ({p['our_steps']:,} steps): {p['times_faster']:,.0f} x faster"
        )


def _samples(image: Rgb) -> tuple[Tensor, Tensor]:
    """Coordinates (2, P) and targets (3, P) of all pixels, float32."""
    height, width = image.shape[:2]
    y = (torch.arange(height, dtype=torch.float64) + 0.5) * 2 / height - 1
    x = (torch.arange(width, dtype=torch.float64) + 0.5) * 2 / width - 1
    xy = torch.stack([x.repeat(height), y.repeat_interleave(width)]).float()
    rgb = torch.from_numpy(np.ascontiguousarray(image).reshape(-1, 3)).float() / 127.5 - 1
    return xy, rgb.T.contiguous()


def _keep(curve: Curve) -> None:
    """Put a curve into the kept file; the others stay as they are."""
    kept = json.loads(KEPT.read_text())
    kept["machine"], kept["commit"] = _machine(), _commit()
    kept["curves"] = [asdict(curve) if c["frame"] == curve.frame else c for c in kept["curves"]]
    beside = KEPT.with_suffix(".part")
    beside.write_text(json.dumps(kept, indent=1) + "\n")
    beside.replace(KEPT)


def _machine() -> str:
    name = platform.processor() or platform.machine()
    return f"{name}, {os.cpu_count()} cores, {torch.get_num_threads()} threads"


def _commit() -> str:
    found = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    return found.stdout.strip() or "unknown"


if __name__ == "__main__":
    sys.exit(main())
