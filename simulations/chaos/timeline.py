"""A picture of one run: what was acknowledged and delivered when, and what struck meanwhile."""

from __future__ import annotations

from pathlib import Path

from simulations.chaos.run import Result

__all__ = ["draw_timeline"]


def draw_timeline(result: Result, path: Path) -> None:
    """Write a PNG: frames acknowledged, the fog's log and each edge's position above the faults."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (upper, lower) = pyplot.subplots(
        2, 1, sharex=True, figsize=(9, 5.5), layout="constrained", height_ratios=(3, 2)
    )
    times = [sample.at_s for sample in result.samples]
    upper.step(times, [s.acknowledged for s in result.samples], where="post", label="frames acknowledged")
    # A daemon that does not run has no position.
    nowhere = float("nan")
    log = [nowhere if s.log_position is None else s.log_position for s in result.samples]
    upper.step(times, log, where="post", label="the fog's log")
    for name in sorted({name for sample in result.samples for name in sample.held}):
        held = [sample.held.get(name, nowhere) for sample in result.samples]
        upper.step(times, held, where="post", linestyle=":", label=f"{name} holds")
    upper.legend(fontsize=8)
    upper.set_ylabel("frames, records")
    outcome = "promise kept" if result.good else "failed"
    upper.set_title(f"seed {result.plan.seed}: {outcome}", fontsize=10)
    struck = sorted(result.struck, key=lambda one: one.begin_s)
    for row, one in enumerate(struck):
        lower.barh(row, max(0.03, one.end_s - one.begin_s), left=one.begin_s, height=0.6, color="tab:red")
    labels = [f"{one.fault.kind.value} ({one.fault.place})" for one in struck]
    lower.set_yticks(range(len(struck)), labels, fontsize=8)
    lower.invert_yaxis()
    lower.set_xlabel("seconds after the edges had started")
    figure.savefig(path, dpi=100)
    pyplot.close(figure)
