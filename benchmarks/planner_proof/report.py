"""What was foretold beside what was measured: a table, JSON, a plot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from planner_proof.predict import Prediction

__all__ = ["BYTES_TOLERANCE", "SECONDS_TOLERANCE", "Row", "plot", "print_table"]

BYTES_TOLERANCE = 0.02
SECONDS_TOLERANCE = 0.15
"""Shares by which a prediction may differ from what was measured."""


@dataclass(frozen=True)
class Row:
    """One rate.

    Attributes:
        rate: Of every link, each direction, B/s.
        planner, simulator: What they said beforehand.
        measured: What the links and the daemons said.
        raw_bytes: Bytes with TCP, IP and Ethernet headers, where the links see them.
        daemon_bytes: What the fog counted, without encryption and framing.
        encode_s: Seconds of the encoder a frame in this run: beside the calibration's ``encoding_s`` it shows
            how steady the machine was.
    """

    rate: float
    planner: Prediction
    simulator: Prediction
    measured: Prediction
    raw_bytes: int | None
    daemon_bytes: int
    encode_s: float

    def errors(self) -> dict[str, dict[str, float]]:
        """Relative error of each prediction, signed: + says too much."""
        return {
            who: {
                what: getattr(said, what) / getattr(self.measured, what) - 1
                for what in ("up", "down", "bytes", "seconds")
            }
            for who, said in (("planner", self.planner), ("simulator", self.simulator))
        }

    def holds(self) -> bool:
        """Whether bytes of each direction and seconds of both predictions are within their tolerances."""
        return all(
            abs(error[what]) <= (SECONDS_TOLERANCE if what == "seconds" else BYTES_TOLERANCE)
            for error in self.errors().values()
            for what in ("up", "down", "bytes", "seconds")
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "errors": self.errors(), "holds": self.holds()}


def print_table(rows: Sequence[Row], heading: str) -> None:
    """A line for each rate and each of uplink, downlink and seconds."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=heading)
    table.add_column("link")
    for name in ("", "measured", "planner", "", "simulator", ""):
        table.add_column(name, justify="left" if not name else "right")
    for row in rows:
        errors = row.errors()
        for what, unit in (("up", "MB up"), ("down", "MB down"), ("seconds", "s")):
            scale = 1.0 if what == "seconds" else 1e6
            cells = [f"{getattr(row.measured, what) / scale:.3f}"]
            for who, said in (("planner", row.planner), ("simulator", row.simulator)):
                cells += [f"{getattr(said, what) / scale:.3f}", f"{errors[who][what]:+.1%}"]
            link = f"{row.rate / 1e3:,.0f} kB/s" if what == "up" else ""
            link = f"binds: {row.planner.binds}" if what == "down" else link
            table.add_row(link, unit, *cells, end_section=what == "seconds")
    Console().print(table)


def plot(rows: Sequence[Row], path: Path, heading: str) -> None:
    """Seconds and bytes over the rate of the links."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(13, 4.2), layout="constrained")
    rates = [row.rate / 1e3 for row in rows]
    panels = (
        ("seconds", "first upload to last record stored (s)", 1.0, SECONDS_TOLERANCE),
        ("up", "uplinks together (MB)", 1e6, BYTES_TOLERANCE),
        ("down", "downlinks together (MB)", 1e6, BYTES_TOLERANCE),
    )
    for axis, (what, label, scale, tolerance) in zip(axes, panels, strict=True):
        measured = [getattr(row.measured, what) / scale for row in rows]
        bounds = [tolerance * value for value in measured]
        name = f"measured ± {tolerance:.0%}"
        axis.errorbar(rates, measured, bounds, fmt="o", color="black", capsize=8, label=name)
        for who, marker, colour in (("planner", "x", "tab:blue"), ("simulator", "+", "tab:red")):
            values = [getattr(getattr(row, who), what) / scale for row in rows]
            axis.plot(rates, values, marker, markersize=11, markeredgewidth=2, color=colour, label=who)
        axis.set_xscale("log")
        axis.set_xticks(rates, [f"{rate:,.0f}" for rate in rates])
        axis.minorticks_off()
        axis.set_xlabel("rate of each link (kB/s)")
        axis.set_ylabel(label)
        top = max(measured) * 1.2
        axis.set_ylim(0 if what == "seconds" else min(measured) * 0.95, top if what == "seconds" else None)
        axis.grid(alpha=0.3)
    axes[0].legend()
    axes[1].legend()
    figure.suptitle(heading)
    figure.savefig(path, dpi=150)
    plt.close(figure)
