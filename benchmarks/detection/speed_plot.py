"""The seconds of an epoch as a picture."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["plot"]


def plot(report: Mapping[str, Any], path: Path) -> None:
    """Write a PNG of the report of ``benchmarks/training_speed.py``."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = report["rows"]
    figure, axis = pyplot.subplots(figsize=(2 + 1.7 * len(rows), 4), constrained_layout=True)
    for place, row in enumerate(rows):
        for shift, way, colour in ((-0.2, "ours", "tab:blue"), (0.2, "peer", "tab:orange")):
            found = row[way]
            label = {"ours": "resident packets", "peer": "Ultralytics' loader"}[way] if place == 0 else None
            axis.bar(place + shift, found["network_s"], 0.36, color=colour, label=label)
            waits = "waiting for batches" if place == 0 and way == "peer" else None
            bottom = found["network_s"]
            axis.bar(place + shift, found["waiting_s"], 0.36, bottom=bottom, color="0.75", label=waits)
    names = [f"{row['profile']}, {row['imgsz']}\n{row['ratio']:.2f}x" for row in rows]
    axis.set_xticks(range(len(rows)), names)
    axis.set(ylabel="seconds an epoch", title=f"{report['frames']} frames, {report['device']}")
    axis.legend(fontsize=8)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
