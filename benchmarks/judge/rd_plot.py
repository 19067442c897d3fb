"""The rate-distortion plot: bytes a frame against the PSNR reached outside and inside the boxes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["plot"]

_TICKS = (1000, 2000, 3000, 5000, 10_000, 20_000, 50_000)
_PANELS = {"background_psnr_db": "background PSNR, dB", "object_psnr_db": "object PSNR, dB"}


def plot(report: Mapping[str, Any], path: Path) -> None:
    """Write a PNG of a report's rows: ours solid, peers by region dashed, whole-frame peers dotted."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    ways = list(dict.fromkeys(row["way"] for row in report["rows"]))
    figure, axes = pyplot.subplots(1, 2, figsize=(11, 4.6), constrained_layout=True)
    sizes = [row["bytes_per_frame"] for row in report["rows"] if row["bytes_per_frame"] is not None]
    for axis, (key, label) in zip(axes, _PANELS.items(), strict=True):
        for way in ways:
            points = sorted(
                (row["bytes_per_frame"], row[key])
                for row in report["rows"]
                if row["way"] == way and row["bytes_per_frame"] is not None and row[key] is not None
            )
            if points:
                axis.plot(
                    *zip(*points, strict=True), _style(way), label=way.removeprefix("peer-"), markersize=4
                )
        axis.set(xlabel="bytes a frame, mean over the frames on target", ylabel=label, xscale="log")
        axis.set_xticks(_TICKS, [f"{tick:,}" for tick in _TICKS])
        axis.minorticks_off()
        if sizes:
            axis.set_xlim(0.85 * min(sizes), 1.18 * max(sizes))
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize=8)
    figure.suptitle(f"{len(report['frames'])} frames, quality of the decoded files")
    figure.savefig(path, dpi=130)
    pyplot.close(figure)


def _style(way: str) -> str:
    if way.endswith("-full"):
        return "s:"
    return "^--" if way.startswith("peer-") else "o-"
