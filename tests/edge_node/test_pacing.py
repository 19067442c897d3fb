"""Bandwidth, hours, priority and time to live of what an edge uploads, without a socket."""

from datetime import datetime

import pytest

from common.config import parse_settings
from common.errors import ConfigError
from common.frame import Frame, FrameIdentity
from common.wire.messages import Fetch, Ping, Pull, Welcome
from common.wire.schedule import Schedule, parse_window
from edge_node.pacing import DownlinkGate, Pacing
from edge_node.settings import EdgeSettings, TrafficSettings
from edge_node.uploading import LoadUploads, SendUpload, Uploading

FRIDAY = datetime(2026, 11, 20)


def at(text, day=20):
    hour, minute = map(int, text.split(":"))
    return datetime(2026, 11, day, hour, minute)


# Hours


@pytest.mark.parametrize(
    ("windows", "moment", "is_open"),
    [
        ([], at("03:00"), True),
        (["22:00-06:00"], at("21:59"), False),
        (["22:00-06:00"], at("22:00"), True),
        (["22:00-06:00"], at("05:59"), True),
        (["22:00-06:00"], at("06:00"), False),
        (["12:00-13:00", "22:00-06:00"], at("12:30"), True),
        (["fri 22:00-06:00"], at("23:00"), True),
        (["fri 22:00-06:00"], at("05:00"), False),
        (["fri 22:00-06:00"], at("05:00", 21), True),
        (["mon-thu 00:00-24:00"], at("12:00"), False),
        (["sat-mon 00:00-24:00"], at("12:00", 22), True),
        (["sat,sun 00:00-24:00"], at("23:59", 21), True),
        (["00:00-24:00"], at("00:00"), True),
    ],
)
def test_frames_are_uploaded_within_the_windows_only(windows, moment, is_open):
    assert Schedule(windows).open(moment) is is_open


@pytest.mark.parametrize(
    "text", ["", "22-06", "25:00-26:00", "10:60-11:00", "10:00-10:00", "abc 10:00-11:00", "fri- 10:00-11:00"]
)
def test_what_is_no_window_is_named(text):
    with pytest.raises(ValueError, match=r"window|weekday|time|begins"):
        parse_window(text)
    with pytest.raises(ConfigError, match=r"traffic\.upload_windows"):
        parse_settings(f"traffic: {{upload_windows: ['{text}']}}", EdgeSettings)


def test_a_day_has_24_hours():
    assert parse_window("00:00-24:00").end == 1440


# Uploads


def frame(number, size=100):
    return Frame("f", bytes(size), 4, 4, identity=FrameIdentity("d", 0, number))


def upload_for(seconds, pacing, *, size=100, frames=8, window=1 << 20, step=0.05):
    """Upload frames that the fog accepts at once; when each left."""
    state = Uploading(window_frames=frames, window_bytes=window, retry_s=1.0, pacing=pacing)
    queue, left, number = state.opened(frames, 0.0), [], 0
    for tick in range(round(seconds / step)):
        now = tick * step
        queue += state.tick(now)
        while queue:
            match queue.pop(0):
                case LoadUploads() as load:
                    count = min(load.limit, max(1, load.max_bytes // size))
                    found = [frame(number + index, size) for index in range(count)]
                    number += count
                    queue += state.loaded(load, found, now)
                case SendUpload(sent):
                    left.append(now)
                    queue += state.accepted((sent.identity.number,), now)[1]
                case _:
                    pass
    return left


def test_uploads_keep_to_the_bandwidth():
    left = upload_for(20, Pacing(TrafficSettings(uplink_bytes_per_s=1000.0)))
    assert len(left) * 100 == pytest.approx(20 * 1000 + 1000, abs=200)


def test_a_frame_larger_than_the_burst_is_uploaded_and_paid_for():
    left = upload_for(30, Pacing(TrafficSettings(uplink_bytes_per_s=1000.0)), size=10_000)
    assert left == pytest.approx([0.0, 9.05, 19.05, 29.05], abs=0.15)


def test_uploads_keep_to_what_the_fog_takes():
    pacing = Pacing(TrafficSettings())
    pacing.welcomed(welcome(max_uploads_per_s=2.0))
    assert len(upload_for(20, pacing)) == pytest.approx(42, abs=2)
    pacing.welcomed(welcome())
    frames, size = pacing.uploads(0.0)
    assert frames > 1_000_000
    assert size > 1_000_000


def welcome(**rates):
    return Welcome(1, 2, 3, "d" * 40, "f" * 40, True, 1 << 20, 8, 4096, 1.0, (), **rates)


def test_nothing_is_uploaded_outside_of_the_hours_and_all_waits():
    clock = at("21:59")
    pacing = Pacing(TrafficSettings(upload_windows=("22:00-06:00",)), lambda: clock)
    state = Uploading(window_frames=8, window_bytes=1000, retry_s=1.0, pacing=pacing)
    assert state.opened(8, 0.0) == []
    assert state.recorded(1.0) == []
    assert state.tick(2.0) == []
    clock = at("22:00")
    assert [type(entry) for entry in state.tick(3.0)] == [LoadUploads]


# Downlink


def test_what_asks_for_data_waits_for_the_bandwidth_and_the_rest_passes():
    pacing, sent = Pacing(TrafficSettings(downlink_bytes_per_s=1000.0)), []
    gate = DownlinkGate(pacing, sent.append)
    gate.send(Pull(0, 10, 1000), 0.0)
    pacing.received(3000, 0.0)
    gate.send(Pull(5, 10, 1000), 0.5)
    gate.send(Pull(9, 10, 1000), 0.6)
    gate.send(Fetch(bytes(32), 0, 10), 0.6)
    gate.send(Ping(), 0.6)
    assert sent == [Pull(0, 10, 1000), Ping()]
    gate.tick(1.9)
    assert len(sent) == 2
    gate.tick(2.1)
    assert sent[2:] == [Pull(9, 10, 1000), Fetch(bytes(32), 0, 10)], "of several Pulls the newest"
    gate.tick(9.0)
    assert len(sent) == 4


def test_a_session_that_has_ended_asks_for_nothing():
    pacing, sent = Pacing(TrafficSettings(downlink_bytes_per_s=1.0)), []
    gate = DownlinkGate(pacing, sent.append)
    pacing.received(100, 0.0)
    gate.send(Pull(0, 10, 1000), 0.0)
    gate.clear()
    gate.tick(1e6)
    assert sent == []


def test_a_slow_link_asks_for_little_at_a_time():
    assert Pacing(TrafficSettings()).down_window(1 << 20) == 1 << 20
    assert Pacing(TrafficSettings(downlink_bytes_per_s=50_000.0)).down_window(1 << 20) == 50_000
    assert Pacing(TrafficSettings(downlink_bytes_per_s=10.0)).down_window(1 << 20) == 4096


# What may expire


def test_a_frame_that_the_fog_may_have_is_kept_until_that_is_written_down():
    state = Uploading(window_frames=2, window_bytes=1000, retry_s=1.0)
    (load,) = state.opened(8, 0.0)
    state.loaded(load, [frame(0), frame(1)], 0.0)
    assert state.kept == {0, 1}
    state.accepted((0,), 0.1)
    assert state.kept == {0, 1}, "acknowledged, and the outbox does not know it yet"
    state.settled((0,))
    assert state.kept == {1}
    state.closed()
    assert state.kept == set()


def test_the_fog_says_when_to_try_again():
    state = Uploading(window_frames=2, window_bytes=1000, retry_s=2.0)
    (load,) = state.opened(8, 0.0)
    state.loaded(load, [frame(0)], 0.0)
    state.refused(0, "too fast", False, 1.0, 0.3)
    assert state.tick(1.2) == []
    assert [type(entry) for entry in state.tick(1.31)] == [LoadUploads]
