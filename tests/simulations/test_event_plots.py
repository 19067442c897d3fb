"""Plots and the timeline of a simulation as a reader takes them: lines agree with the figures beside them."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from matplotlib.figure import Figure

from common.config import parse_settings
from common.cost_model import Strategy
from common.errors import ConfigError
from simulations.charts import draw_chart
from simulations.cli import main
from simulations.events import plots
from simulations.events.figures import Timeline
from simulations.events.model import deployment_of
from simulations.events.scenario import EventScenario
from simulations.events.simulation import simulate
from simulations.events.summary import model_of
from simulations.events.tables import write_timeline

SCENARIO = """
name: 'a $5 camera'
duration_s: 50
drain_s: 500
sample_s: 5
groups:
  - name: cameras
    count: 4
    arrivals: {interval_s: 1, frames: 20, start: together}
    link: {uplink_bytes_per_s: 1000000, downlink_bytes_per_s: 1000000}
codec: {table: null, alpha: 0.1, encode_s: 0}
fog: {wait_s: 0, commit_s: 0, downlink_bytes_per_s: 100000}
training: {first_frames: 80, held_out: 0, edge_s: 200, fog_s: 1, detector_bytes: 400000}
control: {idle_up_bytes_per_s: 20000, idle_down_bytes_per_s: 10000, session_up_bytes: 1000}
policy: {strategy: edge}
"""


@pytest.fixture(scope="module")
def outcome():
    return simulate(parse_settings(SCENARIO, EventScenario), Path())


def lines_of(draw):
    axes = Figure().subplots()
    draw(axes)
    return {line.get_label(): line.get_xydata() for line in axes.get_lines()}


def at(line, x):
    return np.interp(x, line[:, 0], line[:, 1])


def test_all_lines_pass_through_the_models_own_answer(outcome):
    deployment, answer = deployment_of(outcome), model_of(outcome)
    by_frames = lines_of(lambda axes: plots._bytes(axes, outcome, deployment, answer))
    by_devices = lines_of(lambda axes: plots._devices(axes, outcome, deployment, answer))
    for strategy in Strategy:
        expected = answer.cost(strategy).bytes / 1e9
        name = f"model: {strategy.words}"
        assert at(by_frames[name], 80) == pytest.approx(expected, rel=1e-9), strategy
        assert at(by_devices[name], 4) == pytest.approx(expected, rel=1e-9), strategy


def test_fog_and_edge_training_cross_where_the_plot_says(outcome):
    deployment, answer = deployment_of(outcome), model_of(outcome)
    lines = lines_of(lambda axes: plots._bytes(axes, outcome, deployment, answer))
    crossing = answer.crossings.fog_over_edge_frames
    edge, fog = (at(lines[f"model: {s.words}"], crossing) for s in (Strategy.EDGE, Strategy.FOG))
    assert edge == pytest.approx(fog, rel=1e-6)


def test_bandwidth_scales_the_fogs_own_connection_too(outcome):
    scaled = plots._scaled(deployment_of(outcome), 2.0)
    assert scaled.fog_link.downlink_bytes_per_s == 200_000
    assert scaled.devices[0].link.uplink_bytes_per_s == 2_000_000


def test_equal_latencies_are_a_visible_step():
    text = SCENARIO.replace("count: 4", "count: 2").replace(", downlink_bytes_per_s: 100000}", "}")
    lines = lines_of(lambda axes: plots._latency(axes, simulate(parse_settings(text, EventScenario), Path())))
    shares = lines["all copies"][:, 1]
    assert shares[0] == 0
    assert shares[-1] == 1


def test_an_empty_queue_lies_on_the_bottom_of_a_readable_axis(outcome):
    axes = Figure().subplots()
    plots._queues(axes, outcome)
    assert axes.get_ylim()[1] >= 1


def test_a_legend_hides_no_part_of_the_drawing(tmp_path):
    seen = []

    def draw(axes):
        axes.plot([0, 1], [0, 1], label="one")
        seen.append(axes)

    draw_chart(tmp_path / "chart.png", draw)
    axes = seen[0]
    legend, drawing = axes.get_legend().get_window_extent(), axes.get_window_extent()
    assert legend.y1 < drawing.y0
    assert legend.y0 >= 0


@pytest.mark.parametrize("name", ["$\\frac{", "\u65e5\u672c"])
def test_any_name_can_be_a_title(tmp_path, capsys, name):
    path = tmp_path / "s.yaml"
    path.write_text(SCENARIO.replace("a $5 camera", name), encoding="utf-8")
    assert main(["run", str(path), "--out", str(tmp_path / "out"), "--json"]) == 0
    assert main(["sweep", str(path), "--over", "bandwidth=1,2", "--out", str(tmp_path / "sweep")]) == 0
    capsys.readouterr()


def test_connections_cost_bytes_all_along_not_at_the_end(outcome):
    sums = outcome.run.timeline.sums()
    total = sums["bytes_up"][-1]
    assert total == pytest.approx(sum(device.bytes_up for device in outcome.devices))
    # Frames end after a quarter of the time; heartbeats go on.
    half = len(sums["bytes_up"]) // 2
    rest = np.diff(sums["bytes_up"][half:-1])
    assert rest.min() > 0
    assert rest.max() < 1.01 * rest.min()


@pytest.mark.parametrize("end", [0.0, 0.5, 9.99, 10.0, 25.0])
def test_what_is_spread_adds_up(end):
    timeline = Timeline(10.0, 25.0)
    timeline.spread("bytes_up", end, 123.0)
    assert timeline.sums()["bytes_up"][-1] == pytest.approx(123.0)


def test_what_is_spread_ends_within_a_row():
    timeline = Timeline(10.0, 100.0)
    timeline.spread("bytes_up", 25.0, 100.0)
    assert timeline.sums()["bytes_up"] == pytest.approx([40.0, 80.0, 100.0])


def test_long_timelines_tell_their_seconds_apart(tmp_path):
    scenario = yaml.safe_load(SCENARIO) | {"sample_s": 0.5, "control": {}}
    scenario["groups"][0]["arrivals"] |= {"interval_s": 20_000, "frames": None}
    changes = {"duration_s": 1_200_000, "sample_s": 12.5, "groups": scenario["groups"]}
    done = simulate(parse_settings(yaml.safe_dump(scenario | changes), EventScenario), Path())
    write_timeline(done, tmp_path / "timeline.csv")
    seconds = [line.split(",")[0] for line in (tmp_path / "timeline.csv").read_text().splitlines()[1:]]
    assert len(set(seconds)) == len(seconds) > 80_000


@pytest.mark.parametrize("key", ["trace", "replay", "table"])
def test_what_never_ends_is_no_file(tmp_path, key):
    data = yaml.safe_load(SCENARIO)
    if key == "trace":
        data["groups"][0]["link"]["changes"] = {"trace": "/dev/zero"}
    elif key == "replay":
        data["replay"] = {"path": "/dev/zero"}
    else:
        data["codec"] = {"table": "/dev/zero"}
    with pytest.raises(ConfigError, match=r"/dev/zero.* is no file"):
        simulate(parse_settings(yaml.safe_dump(data), EventScenario), tmp_path)


def test_a_folder_that_cannot_be_made_is_told_before_the_simulation(tmp_path, capsys, monkeypatch):
    path = tmp_path / "s.yaml"
    path.write_text(SCENARIO)
    monkeypatch.setattr("simulations.events.files.simulate", lambda *_, **__: pytest.fail("it simulated"))
    assert main(["run", str(path), "--out", str(path)]) == 2
    assert "a file is in the way" in capsys.readouterr().err


def test_jpeg_frames_that_are_shared_are_no_packets_to_decode():
    data = yaml.safe_load(SCENARIO)
    data["policy"]["strategy"] = "serverless"
    data["training"]["decode_frames_per_s"] = 1
    data["control"] = {}
    done = simulate(parse_settings(yaml.safe_dump(data), EventScenario), Path())
    # 4 x 20 frames: 50 seconds of recording at most, a round of 200 s, and no 60 s of decoding.
    assert done.run.finished < 255
