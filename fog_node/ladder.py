"""Fitting many networks to their quality targets: rounds, growth, and a deadline.

Every network starts at a predicted size of its ladder. Networks of one size are fitted as one stack. After
a round they are quantized and measured; those on target leave; the others go on for a round twice as long,
grown (keeping what they have learned) when that would not be enough. The best quantized state is kept.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from common.bitstream.packet import Network
from common.inr.fit import Samples, fit_round, join, widen
from common.inr.groups import NetworkGroup
from common.inr.quantize import BitWidths, quantize, unpack
from common.inr.siren import Architecture, SirenStack
from fog_node.encoder_settings import LadderSettings

__all__ = ["Climb", "Deadline", "Fitted", "Goal", "architectures", "psnr_db"]

EXPECTED_GAIN_DB = (1.8, 0.9, 0.6, 0.4)
"""What the next round, twice as long, adds at the same size, by rounds done; seen on real frames."""
MIN_STEPS = 50
"""Steps that every round gets, deadline or not: by then its pace is known, and fewer give no picture."""
UNLIMITED = 1 << 40
"""More steps than any round has."""
REFIT_SHARE = 0.6
"""Peak learning rate of the rounds after the first, and of warm starts, as a share of the first's."""


def architectures(settings: LadderSettings) -> list[Architecture]:
    """The sizes of a ladder, smallest first."""
    return [Architecture(size.width, size.depth) for size in settings.sizes]


def psnr_db(squared_error: float) -> float:
    """PSNR in dB of a mean squared error over RGB in [0, 1], capped at 99."""
    return 99.0 if squared_error <= 0 else min(99.0, -10 * math.log10(squared_error))


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


@dataclass(frozen=True, slots=True)
class Goal:
    """What one network must reproduce, and how well.

    Attributes:
        rows: (count, 6) float32, its pixels as in :class:`common.inr.fit.Samples`.
        squared_error: Mean squared error to reach, RGB in [0, 1].
        unit: RGB in [0, 1] of one unit of the network's output.
        rung: Size to start from, index into the ladder.
        start: Network of that size to start from; None: a fresh one.
    """

    rows: Tensor
    squared_error: float
    unit: float
    rung: int
    start: Network | None = None


@dataclass(slots=True)
class Fitted:
    """One network's best quantized state so far.

    Attributes:
        network: Quantized; None before the first round.
        squared_error: Of its quantized output over the pixels that count, RGB in [0, 1].
        steps: Optimizer steps spent on it.
    """

    network: Network | None = None
    squared_error: float = math.inf
    steps: int = 0


@dataclass(slots=True)
class _Item:
    """One network on its way: its pixels, its target and where it stands."""

    index: int
    target: float
    unit: float
    rung: int
    stack: SirenStack | None = None
    rounds: int = 0
    warm: bool = False
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
        self._bits = BitWidths(settings.outer_bits, settings.weight_bits, settings.outer_bits)

    def run(self, goals: Sequence[Goal], deadline: Deadline) -> list[Fitted]:
        """Fit one network to each goal until it is reached or the deadline has come.

        At least one short round is always run, except for a start that is on target as it is.

        Returns:
            The best state of each network, in order.
        """
        fitted = [Fitted() for _ in goals]
        if not goals:
            return fitted
        samples = Samples.shuffled([goal.rows for goal in goals], self._generator)
        pending = [_Item(i, g.squared_error, g.unit, g.rung) for i, g in enumerate(goals)]
        for item, goal in zip(pending, goals, strict=True):
            if goal.start is not None:
                self._start_from(item, goal.start, samples, fitted[item.index])
        pending = [item for item in pending if fitted[item.index].squared_error > item.target]
        while pending:
            work = {size: self._cost(size, pending) for size in {item.rung for item in pending}}
            for rung in sorted(work):
                group = [item for item in pending if item.rung == rung]
                # Small networks come first and may take twice their share: what they leave is the others'.
                share = 2 * work[rung] / sum(work[r] for r in work if r >= rung)
                self._round(group, samples, fitted, deadline.limiter(deadline.left * min(1.0, share)))
            pending = [item for item in pending if self._goes_on(item, fitted[item.index], deadline)]
        return fitted

    def _start_from(self, item: _Item, network: Network, samples: Samples, best: Fitted) -> None:
        """Let ``item`` begin with a network that another frame has; measure it as it is."""
        item.stack = NetworkGroup.pack([network], self._device).dequantize()
        item.warm = True
        mine = samples.select(torch.tensor([item.index], device=self._device))
        best.network = network
        best.squared_error = float(mine.squared_error(item.stack)) * item.unit**2

    def _cost(self, rung: int, pending: Sequence[_Item]) -> float:
        return self._sizes[rung].parameters * sum(item.rung == rung for item in pending)

    def _round(
        self, group: list[_Item], samples: Samples, fitted: list[Fitted], tick: Callable[[int], int]
    ) -> None:
        """Fit, quantize and measure the networks of one size; keep what is better."""
        size = self._sizes[group[0].rung]
        stack = join([self._start(item, size) for item in group])
        mine = samples.select(torch.tensor([item.index for item in group], device=self._device))
        refit = all(item.rounds or item.warm for item in group)
        settings = self._settings
        longest = int(mine.count.max())
        steps = settings.steps * 2 ** min(item.rounds for item in group)
        done = 0

        def counted(steps: int) -> int:
            nonlocal done
            done = steps
            return tick(steps)

        stack = fit_round(
            stack,
            mine,
            steps=steps,
            pixels=min(settings.pixels, -(-longest // 64) * 64),
            learning_rate=settings.learning_rate * (REFIT_SHARE if refit else 1.0),
            first_step=settings.steps * (2 ** group[0].rounds - 1),
            tick=counted,
        )
        quantized = quantize(stack, self._bits)
        error = mine.squared_error(quantized.dequantize())
        units = torch.tensor([item.unit for item in group], dtype=torch.float64, device=self._device)
        errors = (error * units.square()).tolist()
        networks = unpack(quantized)
        for row, item in enumerate(group):
            best = fitted[item.index]
            best.steps += done
            if errors[row] < best.squared_error:
                best.network, best.squared_error = networks[row], errors[row]
            # A network that has diverged begins anew, with other weights.
            healthy = math.isfinite(errors[row])
            item.stack = stack.select(torch.tensor([row], device=self._device)) if healthy else None
            item.rounds += 1

    def _start(self, item: _Item, size: Architecture) -> SirenStack:
        """The network that a round begins with: its last state, grown to ``size``, or a fresh one."""
        if item.stack is not None and item.stack.architecture == size:
            return item.stack
        if item.stack is not None and item.stack.architecture.depth == size.depth:
            return widen(item.stack, size, self._generator)
        fresh = SirenStack.initialise(size, 1, self._generator, self._w0)
        return SirenStack(
            size,
            [w.to(self._device) for w in fresh.weights],
            [b.to(self._device) for b in fresh.biases],
            self._w0,
        )

    def _goes_on(self, item: _Item, best: Fitted, deadline: Deadline) -> bool:
        """Whether another round is due; the item's size for it is set."""
        if best.squared_error <= item.target or item.rounds >= self._settings.rounds or deadline.left <= 0:
            return False
        if not math.isfinite(best.squared_error):
            return True
        reached = psnr_db(best.squared_error)
        missing = psnr_db(item.target) - reached
        # A round at the size of the one before says more than experience does: gains at least halve.
        expected = EXPECTED_GAIN_DB[min(item.rounds, len(EXPECTED_GAIN_DB)) - 1]
        if item.rung == item.measured_rung:
            expected = min(expected, (reached - item.measured_db) / 2)
        item.measured_rung, item.measured_db = item.rung, reached
        short = missing - expected
        rungs = max(0, math.ceil(short / self._settings.rung_gain_db))
        item.rung = min(item.rung + rungs, len(self._sizes) - 1)
        return True
