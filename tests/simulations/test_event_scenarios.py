"""Scenarios on the command line: the shipped ones, errors in one sentence, replays, size tables, sweeps."""

import csv
import json
from pathlib import Path

import pytest
import yaml

from common.config import Settings, parse_settings
from common.cost_model import Strategy, plan
from common.errors import ConfigError, UsageError
from common.frame import Frame, FrameIdentity
from common.store import open_fog_store
from common.store.records import RecordKind
from simulations.cli import main
from simulations.cost_scenario import SHIPPED, load_cost_scenario
from simulations.events.files import is_event_scenario, load_event_scenario
from simulations.events.replay import read_replay
from simulations.events.scenario import EventScenario
from simulations.events.simulation import simulate
from simulations.events.sizes import SHIPPED_TABLES, load_table
from simulations.events.sweep import swept_events

SHIPPED_NAMES = sorted(path.name for path in SHIPPED.glob("*.yaml") if is_event_scenario(path))

SMALL = """
name: small
duration_s: 20
drain_s: 60
sample_s: 1
groups:
  - name: cameras
    count: 3
    link: {uplink_bytes_per_s: 1000000, downlink_bytes_per_s: 1000000}
codec: {table: null, alpha: 0.1, encode_s: 0.01}
policy: {strategy: edge}
"""


@pytest.fixture
def small(tmp_path):
    path = tmp_path / "small.yaml"
    path.write_text(SMALL)
    return path


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_scenarios_that_people_ask_about_are_shipped():
    assert {
        "city.yaml",
        "drone_fleet.yaml",
        "farm_radio.yaml",
        "papers_simulated.yaml",
        "wildlife_satellite.yaml",
    } <= set(SHIPPED_NAMES)


@pytest.mark.parametrize("name", SHIPPED_NAMES)
def test_a_shipped_scenario_lists_every_key_with_a_comment(name):
    text = (SHIPPED / name).read_text()
    data = yaml.safe_load(text)
    scenario = load_event_scenario(name)
    assert set(data) == set(EventScenario.model_fields)
    for section in ("codec", "fog", "training", "policy"):
        assert set(data[section]) == set(type(getattr(scenario, section)).model_fields), section
    first, model = data["groups"][0], scenario.groups[0]
    assert set(first) == set(type(model).model_fields)
    assert set(first["arrivals"]) == set(type(model.arrivals).model_fields)
    assert set(first["link"]) == set(type(model.link).model_fields)
    assert set(first["link"]["changes"]) == set(type(model.link.changes).model_fields)
    # Later groups, steps and outages repeat what was explained before.
    for line in text.split("groups:")[0].splitlines() + text.split("codec:")[1].splitlines():
        if ":" in line and not line.startswith("#"):
            assert "# " in line, line


def test_the_papers_simulated_agree_with_the_papers_by_the_cost_model():
    scenario = load_event_scenario("papers_simulated.yaml")
    outcome = simulate(scenario, SHIPPED)
    expected = plan(load_cost_scenario("papers.yaml").deployment()).cost(Strategy.EDGE)
    assert sum(device.bytes_up for device in outcome.devices) == expected.uplink_bytes
    assert sum(device.bytes_down for device in outcome.devices) == pytest.approx(
        expected.downlink_bytes, rel=1e-4
    )


def test_a_run_writes_figures_and_plots_and_prints_one_object(small, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["run", str(small), "--out", str(out), "--json"]) == 0
    printed, err = capsys.readouterr()
    summary = json.loads(printed)
    assert not err
    assert summary["frames"]["recorded"] == 60
    assert summary["frames"]["agrees"]
    assert summary["simulation"]["wall_s"] > 0
    assert summary["simulation"]["peak_rss_bytes"] > 1e6
    assert json.loads((out / "summary.json").read_text())["scenario"]["name"] == "small"
    for name in ("bytes", "devices", "bandwidth", "latency", "queues"):
        assert (out / f"{name}.png").read_bytes().startswith(b"\x89PNG"), name
    timeline = rows_of(out / "timeline.csv")
    assert timeline[-1]["recorded"] == "60"
    assert [row["device"] for row in rows_of(out / "devices.csv")] == ["cameras-0", "cameras-1", "cameras-2"]


def test_a_run_again_writes_the_same_bytes_but_for_its_own_speed(small, tmp_path):
    for name in ("a", "b"):
        assert main(["run", str(small), "--out", str(tmp_path / name)]) == 0
    for path in (tmp_path / "a").iterdir():
        if path.name != "summary.json":
            assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes(), path.name


@pytest.mark.parametrize(
    ("before", "after", "sentence"),
    [
        ("count: 3", "count: -3", "bad value for 'groups.0.count'"),
        ("count: 3", "cuont: 3", "did you mean 'count'"),
        ("alpha: 0.1", "alhpa: 0.1", "unknown key 'alhpa' in small.yaml line 10; did you mean 'alpha'"),
        ("{uplink_bytes_per_s: 1000000", "{uplink_bytes_per_s: -5", "'groups.0.link.uplink_bytes_per_s'"),
        ("{uplink_bytes_per_s: 1000000", "{uplink_bytes_per_s: .nan", "'groups.0.link.uplink_bytes_per_s'"),
        ("    link: {", "    lnk: {", "did you mean 'link'"),
        (
            "    link: {uplink_bytes_per_s: 1000000, downlink_bytes_per_s: 1000000}\n",
            "",
            "'groups.0.link'; add it",
        ),
        ("count: 3", "count: 3\n    receives: []", "nobody hears group 'cameras'"),
        ("count: 3", "count: 1\n    own_returned: false", "nobody hears group 'cameras'"),
        ("count: 3", "count: 3\n    receives: [camras]", "receives 'camras', which is no group"),
        (
            "_per_s: 1000000}",
            "_per_s: 1000000, medium: air}",
            "names the medium 'air', which is not in media",
        ),
        ("name: small", "name: small\nduration_s: 5", "stands in small.yaml on lines"),
        ("duration_s: 20", "duration_s: 1000000000\nmax_frames: 1000", "3,000,000,000 frames, more than"),
        ("duration_s: 20", "duration_s: 0", "bad value for 'duration_s'"),
        ("sample_s: 1", "sample_s: 0.000001", "raise sample_s or lower drain_s"),
        ("alpha: 0.1, ", "", "without a table alpha and encode_s are needed"),
        ("strategy: edge", "strategy: moon", "bad value for 'policy.strategy'"),
        ("count: 3", "count: 3\n    arrivals: {interval_s: 0}", "the frames never end"),
        (
            "_per_s: 1000000}",
            "_per_s: 1000000, changes: {outages: [{from_s: 5, to_s: 4}]}}",
            "before it begins at 5 s",
        ),
        (
            "_per_s: 1000000}",
            "_per_s: 1000000, changes: {steps: [{at_s: 0, share: 0}]}}",
            "the link of group 'cameras' never carries anything",
        ),
        ("_per_s: 1000000}", "_per_s: 1000000, changes: {trace: no.csv}}", "cannot read the trace"),
    ],
)
def test_a_bad_scenario_is_one_sentence_and_exit_code_2(small, tmp_path, capsys, before, after, sentence):
    text = SMALL.replace(before, after, 1)
    assert text != SMALL
    small.write_text(text)
    assert main(["run", str(small), "--out", str(tmp_path / "out")]) == 2
    err = capsys.readouterr().err
    assert sentence in err
    assert err.count("\n") == 1
    assert "Traceback" not in err


def test_a_device_that_nobody_hears_at_its_fog_is_found(small):
    lone = SMALL.replace("count: 3", "count: 3\n    own_returned: false") + "fog: {count: 2}\n"
    with pytest.raises(ConfigError, match="nobody hears group 'cameras' at fog 2 of 2"):
        parse_settings(lone, EventScenario)
    parse_settings(lone.replace("count: 3", "count: 4"), EventScenario)


def test_an_unknown_table_or_target_names_those_that_exist(small, capsys, tmp_path):
    for codec, sentence in (
        ("{table: nosuch}", "there is no size table 'nosuch'; name a JSON file or one of avif"),
        ('{table: pyramid, target: "1,2"}', "has no target '1,2'; its targets are 28,33"),
    ):
        text = SMALL.replace("{table: null, alpha: 0.1, encode_s: 0.01}", codec)
        small.write_text(text)
        assert main(["run", str(small), "--out", str(tmp_path)]) == 2
        assert sentence in capsys.readouterr().err


@pytest.mark.parametrize("path", sorted(SHIPPED_TABLES.glob("*.json")), ids=lambda path: path.stem)
def test_a_shipped_table_names_its_source_and_machine(path):
    table = load_table(path.stem, Path())
    assert table.profile == path.stem
    assert "benchmarks/" in table.source or "log" in table.source
    assert table.machine
    for row in table.rows:
        assert 0 < row.alpha < 1


def test_the_drawn_sizes_are_those_of_the_table(small):
    table = load_table("pyramid", Path()).rows[0]
    text = SMALL.replace("{table: null, alpha: 0.1, encode_s: 0.01}", "{table: pyramid}")
    text = text.replace("count: 3", "count: 200")
    outcome = simulate(parse_settings(text, EventScenario), Path())
    frames = outcome.run.frames
    ratios = [p / j for p, j in zip(table.packet_bytes, table.jpeg_bytes, strict=True)]
    assert len(frames) == 4000
    drawn = sum(frames.packet_bytes) / sum(frames.jpeg_bytes)
    assert drawn == pytest.approx(sum(ratios) / len(ratios), rel=0.1)
    assert sum(frames.encode_s) / 4000 == pytest.approx(sum(table.encode_s) / len(table.encode_s), rel=0.1)


def fog_store(folder):
    """A fog's store with three packets of two devices, and one frame that is not encoded."""
    sizes = {("a", 0): (1000, 100), ("b", 0): (2000, 300), ("a", 1): (1500, 120), ("b", 1): (10, None)}
    with open_fog_store(folder) as store:
        for (device, number), (jpeg, packet) in sizes.items():
            identity = FrameIdentity(device * 40, 7, number)
            store.commit_frames([Frame("f", bytes(jpeg), 4, 4, identity=identity)])
            if packet is not None:
                store.finish(identity, RecordKind.PACKET, {"encode_seconds": 0.5}, bytes(packet))


def test_a_replay_takes_the_frames_of_a_fogs_store(tmp_path):
    store = tmp_path / "nodes" / "fog" / "store"
    fog_store(store)
    files = sorted(store.iterdir())
    replay = read_replay(tmp_path)
    assert sorted(store.iterdir()) == files
    found = [[(f.jpeg_bytes, f.packet_bytes, f.encode_s) for f in frames] for frames in replay.devices]
    assert found == [[(1000, 100, 0.5), (1500, 120, 0.5)], [(2000, 300, 0.5)]]
    text = SMALL + f"replay: {{path: {tmp_path}}}\n"
    outcome = simulate(parse_settings(text, EventScenario), Path())
    assert outcome.devices[0].jpeg_bytes == 10 * 1000 + 10 * 1500
    assert outcome.devices[1].packet_bytes == 20 * 300
    # The run had two devices: the third is as the first.
    assert outcome.devices[2].jpeg_bytes == outcome.devices[0].jpeg_bytes


def test_a_replay_with_moments_records_when_the_run_did(tmp_path):
    path = tmp_path / "run.csv"
    path.write_text(
        "device,seconds,jpeg_bytes,packet_bytes,encode_seconds\n"
        "x,1.5,1000,100,0.1\nx,4,2000,150,0.1\ny,2,500,60,0.1\nx,99,1,1,0\n"
    )
    text = SMALL.replace("count: 3", "count: 2") + "replay: {path: run.csv, arrivals: true}\n"
    outcome = simulate(parse_settings(text, EventScenario), tmp_path)
    assert list(outcome.run.frames.recorded) == [1.5, 2.0, 4.0]
    assert list(outcome.run.frames.packet_bytes) == [100, 60, 150]


@pytest.mark.parametrize(
    ("text", "arrivals", "sentence"),
    [
        ("device,jpeg_bytes,packet_bytes\nx,1,1\n", False, "lacks the column 'encode_seconds'"),
        (
            "device,jpeg_bytes,packet_bytes,encode_seconds\nx,1,-1,0\n",
            False,
            "line 2 has '-1' as packet_bytes",
        ),
        ("device,jpeg_bytes,packet_bytes,encode_seconds\n", False, "holds no encoded frame"),
        ("device,jpeg_bytes,packet_bytes,encode_seconds\nx,1,1,0\n", True, "does not say when"),
    ],
)
def test_a_bad_replay_is_one_sentence(tmp_path, text, arrivals, sentence):
    (tmp_path / "run.csv").write_text(text)
    settings = SMALL + f"replay: {{path: run.csv, arrivals: {str(arrivals).lower()}}}\n"
    with pytest.raises(ConfigError, match=sentence):
        simulate(parse_settings(settings, EventScenario), tmp_path)


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="a folder without a fog's store"):
        read_replay(tmp_path)


def test_a_sweep_simulates_every_combination(small, tmp_path, capsys):
    over = ["--over", "bandwidth=0.5,1", "groups.*.count=2,3"]
    assert main(["sweep", str(small), *over, "--out", str(tmp_path / "s"), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["points"]) == 4
    rows = rows_of(tmp_path / "s" / "sweep.csv")
    found = [(r["bandwidth"], r["groups.*.count"], r["recorded"]) for r in rows]
    assert found == [("0.5", "2", "40"), ("0.5", "3", "60"), ("1", "2", "40"), ("1", "3", "60")]
    assert not (tmp_path / "s" / "sweep.png").exists()


def test_a_sweep_over_bandwidth_is_plotted_and_repeatable(small, tmp_path):
    for name in ("a", "b"):
        over = ["--over", "bandwidth=0.1,1,10"]
        assert main(["sweep", str(small), *over, "--out", str(tmp_path / name)]) == 0
    for name in ("sweep.csv", "sweep.png"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    seconds = [float(row["mean_latency_s"]) for row in rows_of(tmp_path / "a" / "sweep.csv")]
    assert seconds[0] > seconds[1] > seconds[2]


@pytest.mark.parametrize(
    ("key", "sentence"),
    [
        ("groups.dogs.count", "'dogs' is none of what stands there"),
        ("grups.0.count", "'grups' is no section"),
        ("bandwidth.x", "'x' is in no section"),
        ("groups.0.cuont", "did you mean 'count'"),
        ("fog.workers", "bad value for 'fog.workers'"),
    ],
)
def test_a_wrong_sweep_of_events_is_one_sentence(small, key, sentence):
    with pytest.raises(ConfigError, match=sentence):
        swept_events(load_event_scenario(small), [(key, [-1])])


def test_two_keys_that_set_the_same_value_are_refused(small):
    axes = [("groups.cameras.count", [2]), ("groups.*.count", [3, 4])]
    with pytest.raises(UsageError, match=r"sets the same value by 'groups.cameras.count' and by"):
        swept_events(load_event_scenario(small), axes)


def test_too_many_simulations_are_refused(small):
    values = list(range(1, 1002))
    with pytest.raises(UsageError, match="1,001 simulations"):
        swept_events(load_event_scenario(small), [("seed", values)])


def test_a_scenario_of_the_cost_model_is_told_from_one_to_simulate(small):
    assert is_event_scenario(small)
    assert is_event_scenario("city.yaml")
    assert not is_event_scenario("papers.yaml")
    assert not is_event_scenario("no such file.yaml")


def test_every_setting_says_what_it_is():
    def models(model):
        yield model
        for field in model.model_fields.values():
            assert field.description, field
            for part in [field.annotation, *getattr(field.annotation, "__args__", ())]:
                if isinstance(part, type) and issubclass(part, Settings):
                    yield from models(part)

    assert len(list(models(EventScenario))) >= 10
