"""What measured packets of each profile save in a scenario, and the widened keys of such a scenario."""

import json

import pytest

from common.config import parse_settings
from common.cost_model import Strategy, plan
from common.errors import ConfigError
from simulations.cli import main
from simulations.cost_scenario import CostScenario, load_cost_scenario
from simulations.profile_savings import profile_savings

OLD = """
name: as the first version wrote it
devices: 10
frames_per_device: 100
jpeg_bytes_per_frame: 75000
alpha: 0.083
detector_bytes: 98800000
rates: {uplink_bytes_per_s: 2000000, downlink_bytes_per_s: 2000000, encode_s_per_frame: 0.1,
        edge_training_s: 10, fog_training_s: 5}
"""


def old(**more):
    return parse_settings(OLD, CostScenario, name="old.yaml").model_copy(update=more)


def test_every_profile_saves_n_over_1_plus_alpha_n():
    scenario = load_cost_scenario("papers.yaml")
    found = profile_savings(scenario)
    assert {entry.profile for entry in found} >= {"jpeg", "pyramid"}
    for entry in found:
        assert entry.saving == pytest.approx(9 / (1 + 9 * entry.alpha))
        assert entry.limit == pytest.approx(1 / entry.alpha)
        assert entry.saving < min(9, entry.limit)
        assert "rate_distortion" in entry.source


def test_the_command_prints_them_and_its_json_holds_them(tmp_path, capsys):
    assert main(["run", "papers.yaml", "--out", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert "the scenario                    0.083    5.15x   12.05x" in text
    assert main(["run", "papers.yaml", "--out", str(tmp_path), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["plan"]["saving"] == pytest.approx(5.16, abs=0.02)
    assert len(result["profiles"]) == text.count("x\n") - 1


def test_a_scenario_of_the_first_version_still_loads_and_gives_the_same_bytes():
    answer = plan(old().deployment())
    assert answer.cost(Strategy.SERVERLESS).bytes == 10 * 100 * 75000 * 9
    assert answer.cost(Strategy.EDGE).bytes == pytest.approx(10 * 100 * 75000 * (1 + 9 * 0.083))
    assert answer.decided_by == "seconds"


def test_the_widened_keys_reach_the_model():
    text = OLD.replace("alpha: 0.083", "alpha: 0.083\ndecide_by: joules\nchanged_share: 0.5\nrounds: 3")
    text += "energy: {device: {send_j_per_byte: 1.0e-6, receive_j_per_byte: 5.0e-7}}\n"
    scenario = parse_settings(text, CostScenario, name="x.yaml")
    answer = plan(scenario.deployment())
    assert answer.decided_by == "joules"
    assert answer.cost(Strategy.FOG).downlink_bytes == 10 * 98_800_000 * 2
    assert answer.cost(Strategy.SERVERLESS).joules == pytest.approx(675e6 * 1.5e-6)


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("changed_share: 2", "bad value for 'changed_share'"),
        ("energy: {device: {send_w: 1}}", "unknown key 'send_w'"),
        ("upload_overhead_bytes: -1", "bad value for 'upload_overhead_bytes'"),
        ("fog_uplink_bytes_per_s: 0", "bad value for 'fog_uplink_bytes_per_s'"),
    ],
)
def test_a_wrong_widened_key_is_one_sentence(line, sentence):
    with pytest.raises(ConfigError, match=sentence) as caught:
        parse_settings(f"{OLD}{line}\n", CostScenario, name="x.yaml")
    assert "\n" not in str(caught.value)


def test_joules_without_energy_are_one_sentence():
    with pytest.raises(ConfigError, match="needs the energy of the nodes"):
        old(decide_by="joules").deployment()
