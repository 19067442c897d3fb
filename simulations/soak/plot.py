"""Memory, descriptors and threads of every process over time, as a picture."""

from __future__ import annotations

from pathlib import Path

from simulations.soak.run import Soak

__all__ = ["plot_soak"]

PANELS = (
    ("own_bytes", "memory of its own, MB", 1e6),
    ("rss_bytes", "resident, MB", 1e6),
    ("descriptors", "descriptors", 1.0),
    ("threads", "threads", 1.0),
)


def plot_soak(soak: Soak, path: Path) -> None:
    """Write a PNG with a panel for each figure."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 2, sharex=True, figsize=(11, 7), layout="constrained")
    for (name, title, unit), axis in zip(PANELS, axes.flat, strict=True):
        for process, series in soak.series.items():
            times = [at / 60 for at in series.times]
            axis.plot(times, [value / unit for value in series.values(name)], label=process, linewidth=1)
        axis.set_title(title, fontsize=10)
        axis.set_ylim(bottom=0)
    for axis in axes[1]:
        axis.set_xlabel("minutes")
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", fontsize=7)
    figure.savefig(path, dpi=100)
    pyplot.close(figure)
