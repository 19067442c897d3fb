"""The ablation as a picture: bytes against PSNR of the papers' ways, and bytes of the encoder's methods."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["plot"]


def plot(report: Mapping[str, Any], path: Path) -> None:
    """Write a PNG of the rows of ``benchmarks/ablation.py``."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(12, 4.6), constrained_layout=True)
    for row in report["papers"]:
        filled = row["pruning"] == "none"
        for key, colour in (("background_psnr_db", "tab:blue"), ("object_psnr_db", "tab:red")):
            if row[key] is not None:
                left.plot(row["bytes"], row[key], "o", color=colour, fillstyle="full" if filled else "none")
                place = (row["bytes"], row[key])
                left.annotate(row["way"], place, (4, 3), textcoords="offset points", fontsize=7)
    left.set(
        xlabel="bytes a frame",
        ylabel="PSNR, dB",
        title="blue background, red objects; hollow: pruned",
    )
    left.grid(alpha=0.3)
    names = [row["method"] for row in report["encoder"]]
    right.barh(names, [row["raw_bytes"] for row in report["encoder"]], color="0.85", label="raw integers")
    right.barh(names, [row["bytes"] for row in report["encoder"]], color="tab:blue", label="entropy coded")
    right.set(xlabel="bytes a frame at one target")
    right.invert_yaxis()
    if names:
        right.legend(fontsize=8)
    figure.savefig(path, dpi=130)
    pyplot.close(figure)
