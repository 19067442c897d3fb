"""The planner in real daemons: what is measured reaches it, and its bytes are those that crossed."""

import io
import json
from contextlib import redirect_stdout

import pytest

from fog_node.cli import main
from tests.node_processes import Deployment, write_frames

UNENCRYPTED = {
    "upload_overhead_bytes": 200.0,
    "packet_overhead_bytes": 470.0,
    "control": {"answer_bytes": 40.0, "session_up_bytes": 0.0, "session_down_bytes": 0.0},
}
"""What nodes count of their messages; the defaults are what crosses the link, encryption included."""


@pytest.fixture
def daemons(tmp_path):
    daemons = Deployment(tmp_path)
    yield daemons
    daemons.end()


def test_measured_rates_reach_the_plan_and_its_bytes_are_those_that_crossed(daemons, tmp_path, photo):
    frames = 120
    daemons.start_fog(
        training={"strategy": "auto", "min_frames": 10**6},
        planner={"interval_s": 0.1, "min_frames": 2 * frames, "decide_by": "bytes", **UNENCRYPTED},
    )
    names = [f"slow{n:03d}" for n in range(frames)]
    edges = [
        daemons.edge(name, [write_frames(tmp_path / name, photo, names, start)], report_s=0.5).start()
        for name, start in (("barn", 0), ("gate", 50))
    ]
    for edge in edges:
        edge.wait_for(lambda s: s["inbox"]["packet"] == 2 * frames, "every packet")
        edge.wait_for(lambda s: s["latency_s"] is not None, "an answered heartbeat")
        edge.wait_for(lambda s: s["plan"] is not None, "the plan")
    status = daemons.fog.wait_for(lambda s: s["plan"].get("choice"), "a plan")
    plan = status["plan"]
    assert (plan["training"], plan["pinned"]) == ("edge", False)
    assert plan["would_change_it"]
    cost = next(s for s in plan["strategies"] if s["strategy"] == "edge")
    peers = status["peers"].values()
    # Heartbeats, acknowledgements and windows cross too; they are small beside the frames.
    assert cost["uplink_bytes"] == pytest.approx(sum(p["bytes_up"] for p in peers), rel=0.03)
    assert cost["downlink_bytes"] == pytest.approx(sum(p["bytes_down"] for p in peers), rel=0.07)
    text = io.StringIO()
    with redirect_stdout(text):
        assert main(["status", "--config", str(daemons.fog.config), "--json"]) == 0
    assert json.loads(text.getvalue())["plan"]["sentence"] == plan["sentence"]
    text = io.StringIO()
    with redirect_stdout(text):
        assert main(["status", "--config", str(daemons.fog.config)]) == 0
    assert f"    - {plan['would_change_it'][0]}" in text.getvalue()
