"""Rates of the transport as bars."""

from __future__ import annotations

from pathlib import Path
from typing import Any

__all__ = ["plot_transport"]


def plot_transport(report: dict[str, Any], path: Path) -> None:
    """Draw uploads beside their baselines, what a stopped device costs the others, and the downlink."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    panels: list[tuple[str, str, dict[str, float]]] = []
    if "uploads" in report:
        ways = report["uploads"]["ways"]
        rates = {name.replace("_", " "): way["per_s"] for name, way in ways.items()}
        panels.append((f"frames of {report['image_bytes'] / 1000:.0f} kB", "frames/s", rates))
    if "stall" in report:
        states = {f"last device {name}": value for name, value in report["stall"]["uploads_per_s"].items()}
        panels.append(("uploads of the other devices", "frames/s", states))
    if "downlink" in report:
        rates = {
            f"{row['packet_bytes'] / 1000:g} kB to {row['edges']}": row["mb_per_s"]
            for row in report["downlink"]
        }
        panels.append(("packets to edges", "MB/s", rates))
    if not panels:
        return
    figure, axes = pyplot.subplots(
        len(panels), 1, figsize=(8, 1 + 0.4 * sum(len(bars) + 1 for _, _, bars in panels)), squeeze=False,
        layout="constrained", height_ratios=[len(bars) + 1 for _, _, bars in panels],
    )  # fmt: skip
    for axis, (title, unit, bars) in zip(axes[:, 0], panels, strict=True):
        drawn = axis.barh(list(bars), list(bars.values()), color="tab:blue")
        axis.bar_label(drawn, fmt=" %.0f", fontsize="small")
        axis.invert_yaxis()
        axis.set_title(title, fontsize="medium")
        axis.set_xlabel(unit)
        axis.margins(x=0.12)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
