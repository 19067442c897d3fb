"""Small scenarios of the event simulation."""

from pathlib import Path

from simulations.events.scenario import EventScenario
from simulations.events.simulation import simulate

__all__ = ["CONTROL", "LINK", "RADIO", "SHARED", "run", "scenario"]

CONTROL = {
    "answer_bytes": 75,
    "session_up_bytes": 1200,
    "session_down_bytes": 650,
    "idle_up_bytes_per_s": 100,
    "idle_down_bytes_per_s": 50,
    "heartbeat_s": 0.01,
}
LINK = {"uplink_bytes_per_s": 2e6, "downlink_bytes_per_s": 2e6}


def scenario(**changes):
    """Four devices that share with each other; a burst of 200 frames each, unless changed."""
    group = {
        "name": "cameras",
        "count": 4,
        "arrivals": {"kind": "periodic", "interval_s": 0, "frames": 200, "start": "together"},
        "jpeg_bytes": 50_000,
        "link": LINK,
        "own_returned": False,
    } | changes.pop("group", {})
    values = {
        "name": "test",
        "duration_s": 10,
        "drain_s": 1e5,
        "sample_s": 10,
        "groups": [group, *changes.pop("groups", [])],
        "codec": {"table": None, "alpha": 0.1, "encode_s": 0.0} | changes.pop("codec", {}),
        "fog": {"wait_s": 0, "commit_s": 0} | changes.pop("fog", {}),
        "training": {"first_frames": 10**8, "edge_s": 0, "fog_s": 0} | changes.pop("training", {}),
        "policy": {"strategy": "edge"} | changes.pop("policy", {}),
        "upload_overhead_bytes": 0,
        "packet_overhead_bytes": 0,
        "control": dict.fromkeys(CONTROL, 0) | {"heartbeat_s": 1},
    }
    return EventScenario.model_validate(values | changes)


def run(**changes):
    return simulate(scenario(**changes), Path())


SHARED = {"link": LINK | {"medium": "radio"}}
RADIO = {"media": [{"name": "radio"}]}
