"""One round of fitting for networks of one size: fit, make integers, measure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor

from common.bitstream.network_payload import encode_network
from common.bitstream.packet import Network
from common.inr.fit import Samples, fit_round, fresh_stack, join, widen
from common.inr.groups import NetworkGroup
from common.inr.pruning import apply_masks, dynamic_share, magnitude_masks
from common.inr.quantize import BitWidths, quantize, unpack
from common.inr.quantized_fit import QuantizedStack, first_steps, fit_quantized
from common.inr.siren import Architecture, SirenStack
from fog_node.encoders.encoder_settings import LadderSettings
from fog_node.encoders.goals import Fitted, Goal, psnr_db

__all__ = ["Rounds", "Stage", "State"]

FLOAT_SHARE = 0.5
"""Share of a first round's steps before weights are rounded; less leaves dB, more leaves bits."""
HANDOVER = 0.5
"""Learning rate at which the rounded fit takes over, as a share of the peak."""
REFIT_SHARE = 0.6
"""Peak learning rate of the rounds after the first, and of warm starts, as a share of the first's."""
LANDING_STEPS, LANDING_SHARE = 0.2, 0.2
"""Steps and peak learning rate of a landing, as shares of a first round's."""

Limit = Callable[[float], Callable[[int], int]]
"""From a share of the round's time to a tick (:func:`common.inr.fit.fit_round`) that keeps within it."""


class Stage(Enum):
    """Which kind of round a network is due for."""

    FIRST = 0
    AGAIN = 1
    LANDING = 2


@dataclass(slots=True)
class State:
    """One network on its way.

    Attributes:
        index: Of its goal.
        goal: What it shall reach.
        shift: Natural logarithm of the factor by which a landing makes the quantizer's steps larger.
        stage: The round that it is due for.
        stack: Its weights before rounding; None: to be drawn.
        log_steps: Of :class:`common.inr.quantized_fit.QuantizedStack`; None: to be chosen.
    """

    index: int
    goal: Goal
    shift: float = 0.0
    stage: Stage = Stage.FIRST
    stack: SirenStack | None = None
    log_steps: list[Tensor] | None = None


class Rounds:
    """Runs rounds for the networks of one batch.

    Args:
        settings: The ladder.
        goals: Of all networks; states refer to them by index.
        w0: Frequency factor.
        generator: CPU generator of initial weights and pixel order.
        device: Where to fit.
    """

    def __init__(
        self,
        settings: LadderSettings,
        goals: Sequence[Goal],
        w0: float,
        generator: torch.Generator,
        device: torch.device,
    ) -> None:
        self._settings = settings
        self._w0 = w0
        self._generator = generator
        self._device = device
        self._units = [goal.unit for goal in goals]
        self._measured = Samples.shuffled([goal.rows for goal in goals], generator)
        self._samples = self._measured
        if any(goal.coarse is not None for goal in goals):
            parts = [goal.rows if goal.coarse is None else goal.coarse for goal in goals]
            self._samples = Samples.shuffled(parts, generator)

    def measure(self, index: int, network: Network) -> Fitted:
        """A network as it is, against goal ``index``."""
        mine = self._measured.select(torch.tensor([index], device=self._device))
        error = float(mine.squared_error(NetworkGroup.pack([network], self._device).dequantize()))
        return Fitted(network, error * self._units[index] ** 2, len(encode_network(network)))

    def run(self, states: Sequence[State], size: Architecture, limit: Limit) -> list[Fitted]:
        """One round for ``states``, all of one stage, at ``size``; they are moved on.

        Returns:
            What each has come to.
        """
        rows = torch.tensor([state.index for state in states], device=self._device)
        samples = self._samples.select(rows)
        stack = join([self._start(state, size) for state in states])
        if self._settings.quantization == "rate_distortion":
            fitted, steps = self._rounded(states, stack, samples, limit)
            networks, decoded = fitted.networks(), fitted.decoded()
            stack, logs = fitted.stack, fitted.log_steps
        else:
            stack, group, steps = self._plain(states, stack, samples, limit)
            networks, decoded, logs = unpack(group), group.dequantize(), None
        units = torch.tensor([s.goal.unit for s in states], dtype=torch.float64, device=self._device)
        errors = (self._measured.select(rows).squared_error(decoded) * units.square()).tolist()
        results = []
        for row, (state, network, error) in enumerate(zip(states, networks, errors, strict=True)):
            results.append(Fitted(network, error, len(encode_network(network)), steps))
            one = torch.tensor([row], device=self._device)
            state.stack = stack.select(one)
            state.log_steps = None if logs is None else [t.index_select(0, one) for t in logs]
        return results

    def _start(self, state: State, size: Architecture) -> SirenStack:
        """The network that a round begins with: its last state, grown to ``size``, or a fresh one."""
        if state.stack is not None and state.stack.architecture == size:
            return state.stack
        state.log_steps = None
        if state.stack is not None and state.stack.architecture.depth == size.depth:
            return widen(state.stack, size, self._generator)
        state.stage = Stage.FIRST
        return fresh_stack(size, self._generator, self._w0).to(self._device)

    def _plain(
        self, states: Sequence[State], stack: SirenStack, samples: Samples, limit: Limit
    ) -> tuple[SirenStack, NetworkGroup, int]:
        """Fit in floating point, prune, then round once."""
        settings = self._settings
        first = all(state.stage is Stage.FIRST for state in states)
        rate = settings.learning_rate * (1.0 if first else REFIT_SHARE)
        prunings = ("none", "iterative", "dynamic").index(settings.pruning)
        share = 1 / (1 + 0.5 * prunings)
        count = _Counter(limit(share))
        stack = self._fit(stack, samples, settings.steps, rate, count)
        for pruning in range(prunings):
            part = torch.full((stack.count,), settings.pruned_share, device=self._device)
            if pruning == 1:
                errors = samples.squared_error(stack).tolist()
                reached = [psnr_db(e * s.goal.unit**2) for e, s in zip(errors, states, strict=True)]
                part = dynamic_share(torch.tensor(reached, device=self._device))
            masks = magnitude_masks(stack, part)
            again = _Counter(limit(share / 2))
            pruned = apply_masks(stack, masks)
            stack = self._fit(pruned, samples, settings.steps // 2, rate * REFIT_SHARE, again, masks)
            count.done += again.done
        return stack, quantize(stack, _bits(settings)), count.done

    def _fit(
        self,
        stack: SirenStack,
        samples: Samples,
        steps: int,
        rate: float,
        count: _Counter,
        masks: Sequence[Tensor] | None = None,
        last_share: float = 0.0,
    ) -> SirenStack:
        return fit_round(
            stack,
            samples,
            steps=steps,
            pixels=self._pixels(samples),
            learning_rate=rate,
            last_share=last_share,
            masks=masks,
            first_step=self._step(),
            tick=count,
        )

    def _rounded(
        self, states: Sequence[State], stack: SirenStack, samples: Samples, limit: Limit
    ) -> tuple[QuantizedStack, int]:
        """Fit rounded weights with their bits in the loss, after a fit in floating point in a first round."""
        settings, stage = self._settings, states[0].stage
        units = torch.tensor([s.goal.unit for s in states], dtype=torch.float64, device=self._device)
        unseen = torch.tensor([s.goal.unseen for s in states], device=self._device) / units.square()
        steps, rate, spent = settings.steps, settings.learning_rate, 0
        if stage is Stage.FIRST:
            count = _Counter(limit(FLOAT_SHARE))
            before = int(FLOAT_SHARE * steps)
            stack = self._fit(stack, samples, before, rate, count, last_share=HANDOVER)
            steps, rate, spent = steps - before, rate * HANDOVER, count.done
        elif stage is Stage.AGAIN:
            rate *= REFIT_SHARE
        else:
            steps, rate = max(1, int(steps * LANDING_STEPS)), rate * LANDING_SHARE
        if any(state.log_steps is None for state in states):
            logs = first_steps(stack, samples, samples.squared_error(stack) + unseen)
        else:
            logs = [torch.cat(column) for column in zip(*(s.log_steps or [] for s in states), strict=True)]
        start = QuantizedStack(stack, logs)
        landing = stage is Stage.LANDING
        if landing:
            start = start.shifted(torch.tensor([s.shift for s in states], device=self._device))
        targets = torch.tensor([s.goal.squared_error for s in states], device=self._device)
        count = _Counter(limit(1 - FLOAT_SHARE if stage is Stage.FIRST else 1.0))
        fitted = fit_quantized(
            start,
            samples,
            steps=steps,
            pixels=self._pixels(samples),
            learning_rate=rate,
            rate_weight=torch.full((stack.count,), settings.rate_weight, device=self._device),
            target=(targets / units.square()).float(),
            learn_steps=not landing,
            unseen=unseen.float(),
            first_step=self._step(),
            tick=count,
        )
        return fitted, spent + count.done

    def _pixels(self, samples: Samples) -> int:
        return min(self._settings.pixels, -(-int(samples.count.max()) // 64) * 64)

    def _step(self) -> int:
        """Where in the order of pixels a fit begins: each somewhere else."""
        return int(torch.randint(1 << 16, (1,), generator=self._generator))


@dataclass(slots=True)
class _Counter:
    """A tick that remembers how many steps were done, to within ten."""

    tick: Callable[[int], int]
    done: int = 0

    def __call__(self, done: int) -> int:
        self.done = done
        return self.tick(done)


def _bits(settings: LadderSettings) -> BitWidths:
    if settings.quantization == "none":
        return BitWidths(16, 16, 16)
    if settings.quantization == "layer_wise":
        return BitWidths(16, 8, 16, last=16)
    return BitWidths(settings.outer_bits, settings.weight_bits, settings.outer_bits)
