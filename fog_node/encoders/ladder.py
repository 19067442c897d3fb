"""Fitting many networks to their targets: rounds, growth, landing, and a deadline.

Every network starts at a predicted size of its ladder. Networks of one size are fitted as one stack. After
a round they are quantized and measured. Those on target leave, or land first: a short round gives back as
bytes what they have above the target. The others go on, grown (keeping what they have learned) when another
round at their size would not do. The best quantized state is kept: the smallest on target, else the closest.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from common.inr.groups import NetworkGroup
from common.inr.siren import Architecture
from fog_node.encoders.encoder_settings import LadderSettings
from fog_node.encoders.goals import Fitted, Goal, psnr_db
from fog_node.encoders.rounds import Rounds, Stage, State

__all__ = ["Climb", "Deadline", "architectures", "psnr_db"]

EXPECTED_GAIN_DB = (0.5, 0.3, 0.2, 0.15)
"""What the next round adds at the same size, by rounds done; seen on real frames."""
LANDED_DB = 0.05
"""A network this little above its target is done: another round would save about 2 % of its bytes."""
LANDED_SHARE = 0.97
"""A network that has so much of its bytes used is done."""
LANDINGS = 4
"""Landings of a network at most."""
SHIFT_PER_DB = 1.0
"""ln of the factor of the steps that takes one decibel from a network; then its own landings tell."""
SHIFTS_PER_DB = (0.4, 2.0)
"""Bounds of what they tell."""
LARGEST_SHIFT = 2.0
AIM_DB = 0.025
"""A landing aims so far above the target: next to it on either side is as likely, and below is no use."""
NEAR_DB = 0.6
"""A network this little below its target lands on it with finer steps and needs no more neurons."""
MIN_STEPS = 50
"""Steps that every fit gets, deadline or not: by then its pace is known, and fewer give no picture."""
UNLIMITED = 1 << 40
"""More steps than any round has."""


def architectures(settings: LadderSettings) -> list[Architecture]:
    """The sizes of a ladder, smallest first."""
    return [Architecture(size.width, size.depth) for size in settings.sizes]


class Deadline:
    """How many steps still fit before a moment of the clock.

    Args:
        seconds: From now.
        clock: Monotonic seconds.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._end = clock() + seconds

    @property
    def left(self) -> float:
        """Seconds left; negative when overdue."""
        return self._end - self._clock()

    def limiter(self, seconds: float) -> Callable[[int], int]:
        """For one round: from steps done, how many it can have in all within ``seconds`` and the deadline."""
        end = self._clock() + seconds
        warm: tuple[int, float] | None = None

        def steps_in_all(done: int) -> int:
            nonlocal warm
            now = self._clock()
            if warm is None:  # the first steps are slow: memory is being taken
                warm = (done, now)
            if done < MIN_STEPS:
                return UNLIMITED
            pace = (now - warm[1]) / (done - warm[0])
            return done + max(0, int((end - now) / pace)) if pace > 0 else UNLIMITED

        return steps_in_all


@dataclass(slots=True)
class _Item:
    """One network on its way: its state, its size and how far it has come."""

    state: State
    rung: int
    rounds: int = 0
    landings: int = 0
    shift_per_db: float = SHIFT_PER_DB
    landed_from: float | None = None
    last: Fitted | None = None
    measured_rung: int = -1
    measured_db: float = 0.0


class Climb:
    """Fits networks of one ladder.

    Args:
        settings: The ladder.
        w0: Frequency factor.
        generator: CPU generator of initial weights and pixel order.
        device: Where to fit.
    """

    def __init__(
        self, settings: LadderSettings, w0: float, generator: torch.Generator, device: torch.device
    ) -> None:
        self._settings = settings
        self._sizes = architectures(settings)
        self._w0 = w0
        self._generator = generator
        self._device = device

    def run(self, goals: Sequence[Goal], deadline: Deadline) -> list[Fitted]:
        """Fit one network to each goal until it is reached or the deadline has come.

        At least one short round is always run, except for a start that is on target as it is.

        Returns:
            The best state of each network, in order.
        """
        fitted = [Fitted() for _ in goals]
        if not goals:
            return fitted
        rounds = Rounds(self._settings, goals, self._w0, self._generator, self._device)
        pending = []
        for index, goal in enumerate(goals):
            item = _Item(State(index, goal), goal.rung)
            if goal.start is not None:
                self._start_from(item, rounds, fitted)
            if not fitted[index].reaches(goal):
                pending.append(item)
        while pending:
            groups: dict[tuple[int, int], list[_Item]] = {}
            for item in pending:
                groups.setdefault((item.rung, item.state.stage.value), []).append(item)
            work = {key: self._sizes[key[0]].parameters * len(group) for key, group in groups.items()}
            for key in sorted(groups):
                # Small networks come first and may take twice their share: what they leave is the others'.
                share = 2 * work[key] / sum(work[k] for k in work if k >= key)
                seconds = deadline.left * min(1.0, share)
                self._round(groups[key], rounds, fitted, deadline, seconds)
            pending = [item for item in pending if self._goes_on(item, fitted[item.state.index], deadline)]
        return fitted

    def _start_from(self, item: _Item, rounds: Rounds, fitted: list[Fitted]) -> None:
        """Let ``item`` begin with a network that another frame has; measure it as it is."""
        state = item.state
        network = state.goal.start
        if network is None:
            return
        state.stack = NetworkGroup.pack([network], self._device).dequantize()
        state.stage = Stage.AGAIN
        fitted[state.index] = rounds.measure(state.index, network)

    def _round(
        self, group: list[_Item], rounds: Rounds, fitted: list[Fitted], deadline: Deadline, seconds: float
    ) -> None:
        """Run one round for the networks of one size; keep what is better."""
        size = self._sizes[group[0].rung]
        results = rounds.run(
            [item.state for item in group], size, lambda share: deadline.limiter(share * seconds)
        )
        for item, result in zip(group, results, strict=True):
            best = fitted[item.state.index]
            result.steps += best.steps
            item.last = result
            if result.better_than(best, item.state.goal):
                fitted[item.state.index] = result
            else:
                best.steps = result.steps
            item.rounds += 1

    def _goes_on(self, item: _Item, best: Fitted, deadline: Deadline) -> bool:
        """Whether another round is due; the network's stage, size and aim for it are set."""
        state, last = item.state, item.last
        if last is None or item.rounds >= self._settings.rounds or deadline.left <= 0:
            return False
        if not math.isfinite(last.squared_error):
            # A network that has diverged begins anew, with other weights.
            state.stack, state.log_steps, state.stage = None, None, Stage.FIRST
            return not best.reaches(state.goal)
        if state.goal.max_bytes is not None:
            return self._lands_on_size(item, last, state.goal.max_bytes)
        reached, target = psnr_db(last.squared_error), psnr_db(state.goal.squared_error)
        surplus = reached - target
        lands = self._settings.quantization == "rate_distortion" and item.landings < LANDINGS
        if best.reaches(state.goal) or -surplus <= NEAR_DB:
            near_enough = best.reaches(state.goal) and psnr_db(best.squared_error) - target <= LANDED_DB
            if near_enough or (best.reaches(state.goal) and not lands):
                return False
            if lands:
                self._land(item, reached, surplus - AIM_DB)
                return True
        self._grow(item, reached, -surplus)
        return True

    def _land(self, item: _Item, reached: float, surplus: float) -> None:
        """Set a landing's shift of the steps, from what the last one did."""
        state = item.state
        if item.landed_from is not None and abs(state.shift) > 0.05:
            lost = item.landed_from - reached
            told = state.shift / lost if lost * state.shift > 0 else SHIFTS_PER_DB[1]
            item.shift_per_db = min(max(told, SHIFTS_PER_DB[0]), SHIFTS_PER_DB[1])
        item.landings += 1
        item.landed_from = reached
        state.stage = Stage.LANDING
        state.shift = min(max(item.shift_per_db * surplus, -LARGEST_SHIFT), LARGEST_SHIFT)

    def _lands_on_size(self, item: _Item, last: Fitted, max_bytes: int) -> bool:
        used = last.payload_bytes / max_bytes
        if LANDED_SHARE <= used <= 1 or (item.landings >= LANDINGS and used <= 1):
            return False
        # A factor e of the steps saves 1.44 bits a parameter, where parameters have several.
        size = self._sizes[item.rung].parameters
        excess = 8 * (last.payload_bytes - 0.985 * max_bytes) / size
        item.landings += 1
        item.state.stage = Stage.LANDING
        item.state.shift = min(max(excess * math.log(2), -LARGEST_SHIFT), LARGEST_SHIFT)
        return True

    def _grow(self, item: _Item, reached: float, missing: float) -> None:
        """Set the size of the next round: larger when a round at the same size would not do."""
        state = item.state
        # A round at the size of the one before says more than experience does: gains at least halve.
        expected = EXPECTED_GAIN_DB[min(item.rounds, len(EXPECTED_GAIN_DB)) - 1]
        if item.rung == item.measured_rung:
            expected = min(expected, (reached - item.measured_db) / 2)
        item.measured_rung, item.measured_db = item.rung, reached
        rungs = max(0, math.ceil((missing - expected) / self._settings.rung_gain_db))
        item.rung = min(item.rung + rungs, len(self._sizes) - 1)
        item.landings, item.landed_from = 0, None
        state.stage = Stage.AGAIN
