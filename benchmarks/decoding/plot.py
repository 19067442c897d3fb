"""Frames a second as bars."""

from __future__ import annotations

from pathlib import Path
from typing import Any

__all__ = ["plot_speeds"]

SUFFIX = "_frames_per_second"


def plot_speeds(report: dict[str, Any], path: Path) -> None:
    """Draw the ways to decode networks, and the profiles beside Pillow."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    panels: list[tuple[str, dict[str, float]]] = []
    ways = {k.removesuffix(SUFFIX): v for k, v in report.items() if k.endswith(SUFFIX)}
    if ways:
        sizes = ", ".join(report["background_sizes"])
        panels.append((f"networks at coded size ({sizes}; {report['path']})", ways))
    profiles = {name: row["frames_per_second"] for name, row in report["profiles"].items()}
    panels.append((f"training batches of {report['imgsz']} pixels", profiles))
    figure, axes = pyplot.subplots(
        len(panels), 1, figsize=(8, 1 + 0.4 * sum(len(bars) for _, bars in panels)), squeeze=False,
        layout="constrained", height_ratios=[len(bars) + 1 for _, bars in panels],
    )  # fmt: skip
    for axis, (title, bars) in zip(axes[:, 0], panels, strict=True):
        names = [name.replace("_", " ") for name in bars]
        drawn = axis.barh(names, list(bars.values()), color="tab:blue")
        axis.bar_label(drawn, fmt=" %.1f", fontsize="small")
        axis.invert_yaxis()
        axis.set_title(title, fontsize="medium")
        axis.set_xlabel("frames/s")
        axis.margins(x=0.12)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
