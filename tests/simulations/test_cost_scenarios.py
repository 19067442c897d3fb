"""``simulate run`` and ``simulate sweep``: shipped scenario, files, determinism, one-sentence errors."""

import csv
import json
from pathlib import Path

import pytest
import yaml

from common.config import parse_settings
from common.cost_model import Strategy, plan
from common.errors import ConfigError, UsageError
from simulations.cli import main
from simulations.cost_plots import bytes_against_frames, crossing_devices
from simulations.cost_scenario import CostScenario, RateSettings, load_cost_scenario, parse_over, swept

PAPERS = Path(__file__).parents[2] / "simulations" / "scenarios" / "papers.yaml"


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_papers_scenario_gives_the_papers_saving() -> None:
    answer = plan(load_cost_scenario(PAPERS).deployment())
    saving = answer.cost(Strategy.SERVERLESS).bytes / answer.cost(Strategy.EDGE).bytes
    assert saving == pytest.approx(5.16, abs=0.02)
    assert answer.choice is Strategy.EDGE


def test_the_shipped_scenario_is_found_by_its_name() -> None:
    assert load_cost_scenario("papers.yaml") == load_cost_scenario(PAPERS)


def test_the_shipped_scenario_lists_every_key_with_a_comment() -> None:
    data = yaml.safe_load(PAPERS.read_text())
    assert set(data) == set(CostScenario.model_fields)
    assert set(data["rates"]) == set(RateSettings.model_fields)
    for line in PAPERS.read_text().splitlines():
        if ":" in line and not line.startswith("#") and not line.startswith("rates:"):
            assert "  # " in line or "# " in line, line


def test_a_run_writes_figures_and_a_plot(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(PAPERS), "--out", str(tmp_path), "--json"]) == 0
    out, err = capsys.readouterr()
    result = json.loads(out)
    assert not err
    assert result["plan"]["choice"] == "edge"
    assert result["crossing_devices"] == pytest.approx(1 + 1 / 0.917)
    assert json.loads((tmp_path / "plan.json").read_text()) == result
    assert [r["strategy"] for r in read_rows(tmp_path / "strategies.csv")] == ["serverless", "edge", "fog"]
    frames = read_rows(tmp_path / "frames.csv")
    assert {frames[0]["choice"], frames[-1]["choice"]} == {"edge", "fog"}
    assert (tmp_path / "costs.png").read_bytes().startswith(b"\x89PNG")


def test_a_run_again_writes_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        assert main(["run", str(PAPERS), "--out", str(tmp_path / name)]) == 0
    files = sorted(p.name for p in (tmp_path / "a").iterdir())
    assert files == ["costs.png", "devices.csv", "frames.csv", "plan.json", "strategies.csv"]
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_the_frames_curve_reaches_past_the_crossing() -> None:
    scenario = load_cost_scenario(PAPERS)
    crossing = plan(scenario.deployment()).crossings.fog_over_edge_frames
    assert crossing is not None
    curve = bytes_against_frames(scenario)
    for frames, answer in curve:
        if abs(frames - crossing) > 0.02 * crossing:
            assert answer.training is (Strategy.FOG if frames > crossing else Strategy.EDGE)
    assert curve[0][0] < crossing < curve[-1][0]


def test_more_devices_than_the_crossing_make_packets_pay() -> None:
    scenario = load_cost_scenario(PAPERS).model_copy(update={"alpha": 0.6})
    crossing = crossing_devices(scenario)
    assert crossing == pytest.approx(3.5)
    for devices in (3, 4):
        answer = plan(scenario.model_copy(update={"devices": devices}).deployment())
        pays = answer.cost(Strategy.EDGE).bytes < answer.cost(Strategy.SERVERLESS).bytes
        assert pays == (devices > crossing)


def test_a_sweep_evaluates_every_combination(tmp_path: Path) -> None:
    over = ["--over", "devices=2,10", "--over", "rates.shared_medium=false,true"]
    assert main(["sweep", str(PAPERS), *over, "--out", str(tmp_path)]) == 0
    rows = read_rows(tmp_path / "sweep.csv")
    assert [(r["devices"], r["rates.shared_medium"]) for r in rows] == [
        ("2", "False"),
        ("2", "True"),
        ("10", "False"),
        ("10", "True"),
    ]
    assert rows[2]["serverless_bytes"] == str(10 * 1000 * 75000 * 9)
    assert len(json.loads((tmp_path / "sweep.json").read_text())["points"]) == 4


def test_a_sweep_over_one_key_is_plotted_and_repeatable(tmp_path: Path) -> None:
    for name in ("a", "b"):
        arguments = ["sweep", str(PAPERS), "--over", "alpha=0.05,0.1,2e-1", "--out", str(tmp_path / name)]
        assert main(arguments) == 0
    for name in ("sweep.csv", "sweep.json", "sweep.png"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert [r["alpha"] for r in read_rows(tmp_path / "a" / "sweep.csv")] == ["0.05", "0.1", "0.2"]


def test_a_sweep_over_words_is_plotted_too(tmp_path: Path) -> None:
    over = "decide_by=auto,bytes"
    assert main(["sweep", str(PAPERS), "--over", over, "--out", str(tmp_path)]) == 0
    assert (tmp_path / "sweep.png").exists()


@pytest.mark.parametrize(
    ("over", "sentence"),
    [
        ("devices", "--over takes key=a,b,c"),
        ("devices=2,,3", "--over takes key=a,b,c"),
        ("=3", "--over takes key=a,b,c"),
        ("devises=3", "did you mean 'devices'"),
        ("devices=-3", "bad value for 'devices'"),
        ("alpha=.nan", "bad value for 'alpha'"),
        ("rates.uplink=3", "unknown key 'uplink'"),
        ("rate.uplink=3", "'rate' is no section"),
    ],
)
def test_a_wrong_sweep_is_one_sentence_and_exit_code_2(
    over: str, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sweep", str(PAPERS), "--over", over, "--out", str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert sentence in err
    assert err.count("\n") == 1


def test_a_key_twice_and_too_many_scenarios_are_refused() -> None:
    with pytest.raises(UsageError, match="twice"):
        parse_over(["devices=1", "devices=2"])
    many = ",".join(str(i) for i in range(1, 102))
    axes = parse_over([f"devices={many}", f"frames_per_device={many}"])
    with pytest.raises(UsageError, match="10,201 scenarios"):
        list(swept(load_cost_scenario(PAPERS), axes))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("devices: 0", "bad value for 'devices'"),
        ("alhpa: 0.1", "did you mean 'alpha'"),
        ("rates: {uplink_bytes_per_s: 0}", "bad value for 'rates.uplink_bytes_per_s'"),
        ("decide_by: money", "bad value for 'decide_by'"),
    ],
)
def test_a_wrong_scenario_is_one_sentence(change: str, sentence: str) -> None:
    key = change.split(":")[0]
    kept = [line for line in PAPERS.read_text().splitlines() if not line.startswith(f"{key}:")]
    if key == "rates":
        kept = [line for line in kept if not line.startswith("  ")]
    with pytest.raises(ConfigError, match=sentence):
        parse_settings("\n".join([*kept, change]), CostScenario, name="x.yaml")


def test_deciding_by_seconds_without_rates_exits_with_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    over = "decide_by=seconds"
    assert main(["sweep", str(PAPERS), "--over", over, "--out", str(tmp_path)]) == 2
    assert "decide by bytes or give the rates" in capsys.readouterr().err


def test_a_missing_scenario_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(tmp_path / "no.yaml"), "--out", str(tmp_path)]) == 2
    assert "cannot read the configuration" in capsys.readouterr().err


@pytest.mark.parametrize("command", [[], ["run"], ["sweep"]])
def test_every_command_answers_help(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([*command, "--help"])
    assert end.value.code == 0
    assert "usage: simulate" in capsys.readouterr().out
