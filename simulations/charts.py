"""What all plots of scenarios share: colours, size, legends beside the drawing, and reproducible files."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common.cost_model import Strategy

__all__ = ["COLOURS", "draw_chart", "draw_panels"]

COLOURS = {Strategy.SERVERLESS: "#d95f02", Strategy.EDGE: "#1b9e77", Strategy.FOG: "#7570b3"}
"""Colour-blind-safe, one a strategy (ColorBrewer Dark2)."""


def draw_chart(path: Path, draw: Callable[[Any], None]) -> None:
    """Draw on the axes of a new figure and write it; the same drawing gives the same bytes."""
    _write(path, (7, 4.9), 1, lambda panels: draw(panels[0]))


def draw_panels(path: Path, title: str, draw: Callable[[Any, Any], None]) -> None:
    """The same with two axes side by side under one title."""
    _write(path, (11, 5.2), 2, lambda panels: draw(*panels), title)


def _write(
    path: Path, size: tuple[float, float], count: int, draw: Callable[[Any], None], title: str = ""
) -> None:
    # Figure without pyplot: no display is needed, and nothing global is kept.
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(1, count, squeeze=False)[0]
    draw(panels)
    for axes in panels:
        axes.grid(alpha=0.3)
        if axes.get_legend_handles_labels()[0]:
            # Below the axes it never hides a point.
            axes.legend(
                fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2, frameon=False
            )
        for text in (axes.title, axes.xaxis.label):
            text.set_parse_math(False)
    if title:
        figure.suptitle(title, parse_math=False)
    with warnings.catch_warnings():
        # A name in a script that the font lacks is drawn as boxes, which everybody sees.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        # Without the version stamp the same scenario gives the same bytes.
        figure.savefig(path, dpi=120, metadata={"Software": None})
