"""What connections to a fog cost beside frames and records, in the communication model."""

import pytest

from common.cost_model import ControlTraffic, Deployment, DeviceLoad, Rates, Strategy, plan
from common.errors import ConfigError
from common.planning.control_settings import ControlSettings

CONTROL = ControlTraffic(
    answer_bytes=80, session_up_bytes=1000, session_down_bytes=500, idle_up_bytes_per_s=60, heartbeat_s=2
)


def ask(receivers=9, control=CONTROL, connected_s=500, frames=100, detector_bytes=1e6):
    devices = (DeviceLoad(frames * 1000, receivers, frames, count=10),)
    return plan(Deployment(devices, 0.1, detector_bytes, control=control, connected_s=connected_s))


def test_a_frame_spares_a_heartbeat():
    assert CONTROL.connection(100, 500) == (1000 + 60 * 300, 500)
    assert CONTROL.connection(400, 500) == (1000, 500)


def test_every_strategy_with_a_fog_carries_it_and_serverless_does_not():
    with_it, without = ask(), ask(control=ControlTraffic())
    for strategy in (Strategy.EDGE, Strategy.FOG):
        more, less = with_it.cost(strategy), without.cost(strategy)
        assert more.uplink_bytes - less.uplink_bytes == 10 * (1000 + 60 * 300)
        assert more.downlink_bytes - less.downlink_bytes == pytest.approx(10 * (500 + 100 * 80))
    serverless = Strategy.SERVERLESS
    assert with_it.cost(serverless).bytes == without.cost(serverless).bytes


def test_it_moves_the_crossing_of_receivers():
    found = ask().crossings.receivers
    for receivers, cheaper in ((found * 0.999, Strategy.SERVERLESS), (found * 1.001, Strategy.EDGE)):
        answer = ask(receivers=receivers, detector_bytes=1e12)
        assert answer.choice is cheaper


def test_it_moves_the_crossing_of_frames():
    control = ControlTraffic(answer_bytes=80, session_up_bytes=1000, session_down_bytes=500)
    found = ask(control=control).crossings.fog_over_serverless_frames
    per_device = found / 10
    for share, fewer in ((0.99, Strategy.SERVERLESS), (1.01, Strategy.FOG)):
        answer = ask(control=control, frames=per_device * share)
        costs = {s: answer.cost(s).bytes for s in (Strategy.SERVERLESS, Strategy.FOG)}
        assert min(costs, key=costs.__getitem__) is fewer


def test_rates_are_not_touched():
    devices = (DeviceLoad(1e5, 2, 100, count=3),)
    rates = Rates(1e5, 1e5, encode_s_per_frame=0.1, edge_training_s=1.0, fog_training_s=1.0)
    seconds = [
        plan(Deployment(devices, 0.1, 1e6, rates=rates, control=control)).cost(Strategy.EDGE).seconds
        for control in (CONTROL, ControlTraffic())
    ]
    assert seconds[0] == seconds[1]


@pytest.mark.parametrize(
    "wrong", [{"answer_bytes": -1}, {"heartbeat_s": 0}, {"idle_up_bytes_per_s": float("nan")}]
)
def test_what_makes_no_sense_is_refused(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        ControlTraffic(**wrong)


def test_settings_are_the_models_figures():
    settings = ControlSettings(answer_bytes=1, heartbeat_s=3)
    assert settings.traffic().answer_bytes == 1
    assert settings.traffic().heartbeat_s == 3
