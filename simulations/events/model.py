"""The communication model's answer for what a simulation recorded, beside which its figures stand."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import replace

import numpy as np

from common.cost_model import Deployment, DeviceLoad, Inbound, Link, NodeRates, Rates
from common.planning.energy import Energy
from simulations.events.device import Device
from simulations.events.scenario import FogSettings
from simulations.events.simulation import Outcome

__all__ = ["deployment_of", "frame_seconds"]


def frame_seconds(outcome: Outcome) -> float:
    """Mean seconds of encoding a frame by all encoders of all fogs together."""
    frames, fog = outcome.run.frames, outcome.run.scenario.fog
    if not len(frames):
        return 0.0
    return float(np.frombuffer(frames.encode_s, np.float32).mean(dtype=np.float64)) / (
        fog.workers * fog.count
    )


def deployment_of(outcome: Outcome) -> Deployment:
    """What was recorded, as the model's question: nominal rates, everything recorded at once.

    Several fogs become one whose encoders work as quickly as theirs together; media stay apart.
    """
    scenario = outcome.run.scenario
    training = scenario.training
    packets, counts = _packets(outcome)
    loads: list[DeviceLoad] = []
    for number, place in enumerate(outcome.places):
        # What the devices of a place want, group by group.
        jpeg: dict[str, float] = defaultdict(float)
        coded: dict[str, float] = defaultdict(float)
        frames: dict[str, float] = defaultdict(float)
        for device in place:
            group = device.group.name
            jpeg[group] += device.jpeg_bytes
            coded[group] += packets[device.number]
            frames[group] += counts[device.number]
        for device in place:
            wanted = [group for group in jpeg if {"*", group} & set(device.group.receives)]
            own = device.group.name in wanted
            inbound = Inbound(
                math.fsum(jpeg[group] for group in wanted) - own * device.jpeg_bytes,
                math.fsum(coded[group] for group in wanted) - own * packets[device.number],
                math.fsum(frames[group] for group in wanted) - own * counts[device.number],
            )
            loads.append(
                DeviceLoad(
                    jpeg_bytes=device.jpeg_bytes,
                    receivers=sum(other is not device for other in outcome.audience[device.number]),
                    frames=counts[device.number],
                    packet_bytes=packets[device.number],
                    name=device.name,
                    link=_link(device, number),
                    node=NodeRates(training.decode_frames_per_s, training.edge_s),
                    inbound=inbound,
                    learns=device.learner is not None,
                    own_returned=own and device.group.own_returned,
                )
            )
    return Deployment(
        devices=tuple(loads),
        alpha=None,
        detector_bytes=training.detector_bytes,
        decide_by=scenario.policy.decide_by,
        rounds=1 if training.max_rounds is None else training.max_rounds,
        changed_share=training.changed_share,
        trained_share=max(1e-9, 1 - training.held_out / training.validation_block),
        upload_overhead_bytes=scenario.upload_overhead_bytes,
        packet_overhead_bytes=scenario.packet_overhead_bytes,
        control=scenario.control.traffic(),
        connected_s=outcome.run.finished,
        fog_link=_fog_link(scenario.fog),
        energy=None if scenario.energy is None else _together(scenario.energy.energy(), scenario.fog.count),
        rates=Rates(
            encode_s_per_frame=frame_seconds(outcome),
            fog_training_s=training.fog_s,
            edge_training_s=None,
            epochs=training.epochs,
            encode_batch_frames=scenario.fog.batch_frames,
        ),
    )


def _fog_link(fog: FogSettings) -> Link | None:
    """The connections of all fogs together; None without a limit."""
    up, down = fog.uplink_bytes_per_s, fog.downlink_bytes_per_s
    if up is None and down is None:
        return None
    return Link(None if up is None else up * fog.count, None if down is None else down * fog.count)


def _together(energy: Energy, fogs: int) -> Energy:
    """So many fogs at work at the same time."""
    fog = energy.fog
    return replace(energy, fog=replace(fog, encode_w=fog.encode_w * fogs, training_w=fog.training_w * fogs))


def _packets(outcome: Outcome) -> tuple[list[int], list[int]]:
    """(packet bytes, frames) by device, of frames that were not dropped, encoded or not."""
    frames, count = outcome.run.frames, len(outcome.devices)
    owners = np.frombuffer(frames.device, np.int64) if len(frames) else np.zeros(0, np.int64)
    sizes = np.frombuffer(frames.packet_bytes, np.int64) if len(frames) else np.zeros(0, np.int64)
    total = np.bincount(owners, weights=sizes, minlength=count)
    return [int(value) for value in total], np.bincount(owners, minlength=count).tolist()


def _link(device: Device, place: int) -> Link:
    link = device.group.link
    return Link(
        link.uplink_bytes_per_s,
        link.downlink_bytes_per_s,
        link.latency_s,
        link.goodput,
        "" if link.medium is None else f"{link.medium} {place}",
    )
