"""The picture of a training: loss of every step and mAP on the validation images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

__all__ = ["plot_training"]


def plot_training(
    losses: Sequence[Sequence[float]],
    names: Sequence[str],
    points: Sequence[tuple[int, float, float]],
    path: Path,
) -> None:
    """Write a PNG.

    Args:
        losses: Loss items of every step.
        names: What they are called.
        points: (step, mAP50, mAP50-95).
        path: Where to.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 6), layout="constrained")
    FigureCanvasAgg(figure)
    above, below = figure.subplots(2, 1, sharex=True)
    steps = range(1, len(losses) + 1)
    for index, name in enumerate(names):
        above.plot(steps, [row[index] for row in losses], label=name, linewidth=1)
    above.set_ylabel("loss")
    above.set_ylim(bottom=0)
    above.legend(loc="upper right")
    below.plot([p[0] for p in points], [p[1] for p in points], marker="o", label="mAP50")
    below.plot([p[0] for p in points], [p[2] for p in points], marker="o", label="mAP50-95")
    below.set_xlabel("training step")
    below.set_ylabel("mAP on validation images")
    below.set_ylim(0, 1)
    below.legend(loc="upper left")
    figure.savefig(path, dpi=110)
