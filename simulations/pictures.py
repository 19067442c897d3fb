"""Side-by-side pictures of decoded frames, and the plot of training loss and mAP."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from common.frame import Box
from common.images import Rgb, encode_png
from simulations.report import DetectorScore

__all__ = ["Curve", "plot_learning", "residual_picture", "side_by_side", "write_pictures"]

HEADER_PX = 18
"""Height of the strip that holds a panel's title, pixels."""

RESIDUAL_GAIN = 2.0
"""Residuals are shown this many times stronger: most are a few grey levels."""

BOX_COLOUR = (255, 220, 0)


@dataclass(frozen=True, slots=True)
class Curve:
    """Training loss of one round.

    Attributes:
        name: Who trained.
        steps: Training steps.
        losses: Loss at each.
    """

    name: str
    steps: tuple[int, ...]
    losses: tuple[float, ...]


def residual_picture(background: Rgb, result: Rgb) -> Rgb:
    """What the objects' networks add: (H, W, 3) uint8, middle grey for nothing."""
    difference = result.astype(np.float32) - background.astype(np.float32)
    shown: Rgb = np.clip(128 + RESIDUAL_GAIN * difference, 0, 255).round().astype(np.uint8)
    return shown


def side_by_side(source: Rgb, background: Rgb, result: Rgb, boxes: Sequence[Box]) -> Rgb:
    """Source, background only, residual and result beside each other, boxes drawn on each.

    Args:
        source: (H, W, 3) uint8 RGB.
        background: The same shape: what the background network alone decodes.
        result: The same shape: background and objects.
        boxes: In these pixels.

    Returns:
        (H + HEADER_PX, 4 * W, 3) uint8 RGB.
    """
    panels = [
        ("source", source),
        ("background only", background),
        (f"residual x{RESIDUAL_GAIN:g}", residual_picture(background, result)),
        ("result", result),
    ]
    return np.ascontiguousarray(np.hstack([_panel(title, image, boxes) for title, image in panels]))


def _panel(title: str, image: Rgb, boxes: Sequence[Box]) -> Rgb:
    height, width = image.shape[:2]
    panel = np.full((height + HEADER_PX, width, 3), 255, np.uint8)
    panel[HEADER_PX:] = image
    body = panel[HEADER_PX:]
    for box in boxes:
        region = box.region(width, height)
        if region is not None:
            x0, y0, x1, y1 = region
            cv2.rectangle(body, (x0, y0), (x1 - 1, y1 - 1), BOX_COLOUR, 1)
            cv2.putText(body, box.name, (x0 + 2, y0 + 10), cv2.FONT_HERSHEY_PLAIN, 0.7, BOX_COLOUR, 1)
    cv2.putText(panel, title, (4, 13), cv2.FONT_HERSHEY_PLAIN, 0.9, (0, 0, 0), 1)
    return panel


def write_pictures(folder: Path, pictures: Sequence[tuple[str, Rgb]]) -> None:
    """Write PNG files, replacing the folder's former ones."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.png"):
        old.unlink()
    for name, image in pictures:
        (folder / f"{name}.png").write_bytes(encode_png(image))


def plot_learning(curves: Sequence[Curve], scores: Sequence[DetectorScore], path: Path) -> None:
    """Write one picture: the training losses, and mAP50 and mAP50-95 of every detector on both clips."""
    # Figure without pyplot: no display is needed, and nothing global is kept.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    for curve in curves:
        left.plot(curve.steps, curve.losses, label=curve.name)
    left.set_xlabel("training step")
    left.set_ylabel("training loss")
    left.set_title("Loss")
    left.grid(alpha=0.3)
    if curves:
        left.legend(fontsize="small")
    _bars(right, scores)
    figure.savefig(path, dpi=110, metadata={"Software": None})


def _bars(axes: Any, scores: Sequence[DetectorScore]) -> None:
    detectors = list(dict.fromkeys(s.detector for s in scores))
    clips = list(dict.fromkeys(s.clip for s in scores))
    groups = [(clip, measure) for clip in clips for measure in ("mAP50", "mAP50-95")]
    width = 0.8 / max(1, len(groups))
    for place, (clip, measure) in enumerate(groups):
        found = {s.detector: s for s in scores if s.clip == clip}
        values = [
            (found[d].map50 if measure == "mAP50" else found[d].map50_95) if d in found else 0.0
            for d in detectors
        ]
        where = [x + (place - (len(groups) - 1) / 2) * width for x in range(len(detectors))]
        axes.bar(where, values, width, label=f"{clip}, {measure}")
    axes.set_xticks(range(len(detectors)), detectors)
    axes.set_ylim(0, 1)
    axes.set_ylabel("mAP on validation frames")
    axes.set_title("Detectors in use: before (starter) and after")
    axes.legend(fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.08), ncols=2)
