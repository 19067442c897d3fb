"""The study of accuracy as a picture: mAP against bytes, and differences with their intervals."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["plot"]


def plot(report: Mapping[str, Any], path: Path) -> None:
    """Write a PNG of the report of ``benchmarks/accuracy.py``."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import NullFormatter

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4), constrained_layout=True)
    for name, arm in report["arms"].items():
        if arm["bytes_per_frame"] is None:
            left.axhline(100 * arm["map50_95"]["mean"], color="0.6", linestyle=":", label=name)
            continue
        values = [100 * value for value in arm["seeds"]]
        (dots,) = left.plot([arm["bytes_per_frame"]] * len(values), values, "o", alpha=0.35)
        left.plot(
            arm["bytes_per_frame"], 100 * arm["map50_95"]["mean"], "D", color=dots.get_color(), label=name
        )
    left.set(xscale="log", xlabel="bytes a frame", ylabel="mAP50-95, points")
    left.xaxis.set_minor_formatter(NullFormatter())  # labels between the decades would overlap
    left.set_title("each seed, and the mean")
    left.grid(alpha=0.3)
    left.legend(fontsize=8)
    rows = list(report["differences"].items())
    for place, (_, found) in enumerate(rows):
        right.plot(
            [100 * found["low"], 100 * found["high"]],
            [place, place],
            color="0.7",
            linewidth=6,
            solid_capstyle="butt",
        )
        if found["seeds_low"] is not None:
            seeds = [100 * found["seeds_low"], 100 * found["seeds_high"]]
            right.plot(seeds, [place, place], color="tab:blue", linewidth=2, solid_capstyle="butt")
        right.plot(100 * found["mean"], place, "o", color="tab:blue")
    right.axvline(0, color="black", linewidth=0.8)
    right.set_yticks(range(len(rows)), [name for name, _ in rows])
    right.invert_yaxis()
    right.set(xlabel="difference in mAP50-95, points")
    right.set_title("95 %: seeds (blue), seeds and stretches (grey)")
    right.grid(alpha=0.3)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
