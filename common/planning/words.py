"""A plan in words: the choice and why, and what would change it."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

from common.planning.crossings import Crossings, SecondsCrossing
from common.planning.strategies import Strategy, StrategyCost

__all__ = ["amount", "changes", "reason"]


def reason(
    choice: StrategyCost,
    costs: Sequence[StrategyCost],
    decided_by: str,
    alpha: float,
    receivers: float,
    crossings: Crossings,
) -> str:
    """The choice and why, one sentence without a full stop."""
    others = " and ".join(
        f"{amount(_figure(c, decided_by), decided_by)} for {c.strategy.words}"
        for c in costs
        if c.strategy is not choice.strategy
    )
    least = amount(_figure(choice, decided_by), decided_by)
    text = f"{choice.strategy.words} costs least: {least} against {others}; "
    if crossings.receivers is None:
        text += f"at alpha {alpha:.2f} packets are no smaller than JPEG, so sending them never pays; "
    else:
        relation = "more" if receivers > crossings.receivers else "not more"
        text += (
            f"a frame has {receivers:.2f} receivers, {relation} than the {crossings.receivers:.2f} above "
            f"which packets send fewer bytes than serverless JPEG at alpha {alpha:.3f}; "
        )
    if crossings.fog_over_edge_frames is not None:
        text += (
            "sending detectors instead of packets takes fewer bytes beyond "
            f"{math.ceil(crossings.fog_over_edge_frames):,} frames; "
        )
    return text + f"what binds is {choice.binds}"


def changes(
    choice: StrategyCost,
    among: Collection[Strategy],
    decided_by: str,
    alpha: float,
    frames: float | None,
    crossings: Crossings,
) -> tuple[str, ...]:
    """What would change the choice ``among`` strategies: the nearest crossings, a sentence each."""
    if decided_by == "seconds":
        within = [c for c in crossings.seconds if c.below in among and c.above in among]
        return _by_seconds(choice.strategy, frames, within)
    if decided_by == "bytes":
        return tuple(_by_bytes(choice.strategy, among, alpha, frames, crossings))
    return ()


def amount(value: float, unit: str) -> str:
    """A figure of bytes, seconds or joules with its unit."""
    if unit == "seconds":
        return f"{value:.1f} s"
    symbol = "B" if unit == "bytes" else "J"
    for prefix, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.2f} {prefix}{symbol}"
    return f"{value:.0f} {symbol}"


def _figure(cost: StrategyCost, decided_by: str) -> float:
    value = {"bytes": cost.bytes, "seconds": cost.seconds, "joules": cost.joules}[decided_by]
    return math.inf if value is None else value


def _by_bytes(
    choice: Strategy,
    among: Collection[Strategy],
    alpha: float,
    frames: float | None,
    crossings: Crossings,
) -> list[str]:
    found = []
    between = {
        frozenset((Strategy.FOG, Strategy.EDGE)): crossings.fog_over_edge_frames,
        frozenset((Strategy.FOG, Strategy.SERVERLESS)): crossings.fog_over_serverless_frames,
    }
    for pair, crossing in between.items():
        if crossing is None or frames is None or choice not in pair or not pair <= set(among):
            continue
        (other,) = pair - {choice}
        side = "fewer" if choice is Strategy.FOG else "more"
        found.append(
            f"with {side} than {math.ceil(crossing):,} frames ({frames:,.0f} now) {other.words} sends "
            "fewer bytes"
        )
    if crossings.alpha is not None and choice is not Strategy.FOG and Strategy.SERVERLESS in among:
        side, other = ("above", Strategy.SERVERLESS)
        if choice is Strategy.SERVERLESS:
            side, other = ("below", Strategy.EDGE)
        found.append(
            f"with alpha {side} {crossings.alpha:.3f} ({alpha:.3f} now) {other.words} sends fewer bytes"
        )
    return found


def _by_seconds(
    choice: Strategy, frames: float | None, crossings: Sequence[SecondsCrossing]
) -> tuple[str, ...]:
    nearest: dict[tuple[str, bool], SecondsCrossing] = {}
    for crossing in crossings:
        above = crossing.factor > 1
        winner, loser = (crossing.above, crossing.below) if above else (crossing.below, crossing.above)
        if loser is not choice or winner is choice:
            continue
        key = (crossing.over, above)
        known = nearest.get(key)
        if known is None or abs(math.log(crossing.factor)) < abs(math.log(known.factor)):
            nearest[key] = crossing
    sentences = []
    for (over, above), crossing in sorted(nearest.items()):
        winner = crossing.above if above else crossing.below
        if over == "rate":
            where = (
                f"with links {'more' if above else 'less'} than {crossing.factor:.3g} times as quick as now"
            )
        else:
            count = crossing.factor * (frames or 0.0)
            where = (
                f"with {'more' if above else 'fewer'} than {math.ceil(count):,} frames ({frames:,.0f} now)"
            )
        sentences.append(f"{where} {winner.words} is quicker")
    return tuple(sentences)
