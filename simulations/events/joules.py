"""Energy of a simulation, by the same figures as the communication model's."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from simulations.events.simulation import Outcome

__all__ = ["joules"]


def joules(outcome: Outcome) -> dict[str, float] | None:
    """What devices and fogs drew beyond their idle power, joules; None when the scenario does not ask.

    A fog's watts of encoding are those of all its encoders at work. At an edge a round's seconds draw the
    watts of training, and those of the decoding before it the watts of decoding.
    """
    scenario = outcome.run.scenario
    if scenario.energy is None:
        return None
    energy = scenario.energy.energy()
    up = sum(device.bytes_up for device in outcome.devices)
    down = sum(device.bytes_down for device in outcome.devices)
    learners = [device.learner for device in outcome.devices if device.learner is not None]
    training = sum(learner.trained for learner in learners) * scenario.training.edge_s
    decoding = sum(learner.busy_s for learner in learners) - training
    device = energy.device.radio(up, down)
    device += energy.device.training_w * training + energy.device.decode_w * max(0.0, decoding)
    fog = energy.fog.radio(down, up) if outcome.fogs else 0.0
    for each in outcome.fogs:
        fog += energy.fog.encode_w * each.encoders.busy_s / scenario.fog.workers
        fog += energy.fog.training_w * each.learner.busy_s
    return {"devices_j": device, "fogs_j": fog, "joules": device + fog}
