"""Bytes of each frame over time: stills against a stream."""

from __future__ import annotations

from pathlib import Path
from typing import Any

__all__ = ["plot_streams"]


def plot_streams(report: dict[str, Any], path: Path) -> None:
    """Draw one panel a sequence; means of video codecs are dashed."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    sequences = report["sequences"]
    figure, panels = pyplot.subplots(
        len(sequences), 1, figsize=(8, 2.6 * len(sequences)), squeeze=False, layout="constrained"
    )
    for panel, (name, measured) in zip(panels[:, 0], sequences.items(), strict=True):
        frames = range(measured["frames"])
        panel.step(frames, measured["stills"]["bytes"], where="mid", label="stills", color="tab:orange")
        panel.step(frames, measured["stream"]["bytes"], where="mid", label="stream", color="tab:blue")
        keyframes = [i for i, kind in enumerate(measured["stream"]["kinds"]) if kind == "keyframe"]
        sizes = [measured["stream"]["bytes"][i] for i in keyframes]
        panel.plot(keyframes, sizes, "o", color="tab:blue", markersize=4, label="keyframe")
        for index, (peer, found) in enumerate(measured["video"].items()):
            if found["bytes_per_frame"] is not None:
                panel.axhline(
                    found["bytes_per_frame"], linestyle="--", linewidth=0.8, color=f"C{index + 4}", label=peer
                )
        panel.set_title(name, fontsize="medium")
        panel.set_ylabel("bytes")
        panel.set_ylim(bottom=0)
    panels[0, 0].legend(fontsize="small", ncols=6)
    panels[-1, 0].set_xlabel("frame")
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
