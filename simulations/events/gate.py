"""Which trained detectors the deploy gate of a simulated node refuses."""

from __future__ import annotations

import random
from collections.abc import Callable

from simulations.events.scenario import EventScenario

__all__ = ["gate"]


def gate(scenario: EventScenario, node: str) -> Callable[[], bool]:
    """Draws, at each round of a node, whether its weights are refused; the seed and the name decide.

    Args:
        scenario: What is simulated.
        node: Name of the node.
    """
    share = scenario.training.gate_refusals
    if not share:
        return lambda: False
    source = random.Random(f"{scenario.seed} gate of {node}")
    return lambda: source.random() < share
