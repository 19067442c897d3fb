"""Bandwidth and hours of what the fog sends each device, without a socket and between real daemons."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from datetime import datetime

import pytest

from common.config import parse_settings
from common.errors import ConfigError
from common.store.records import LogPage, Record, RecordKind
from common.wire.allow_list import AllowList, Device
from common.wire.messages import Chunk, Fetch, Hello, Ping, Pong, Pull, RecordMessage, Report
from fog_node.downlink_pacing import DownlinkPacing
from fog_node.instructions import ReadBlob, ReadLog, Send
from fog_node.planning import Planner, Tally
from fog_node.settings import FogSettings, FogTrafficSettings, FogTrainingSettings, PlannerSettings
from fog_node.state import FogState
from tests.node_processes import Deployment, write_frames

FOG, ONE, TWO = "F" * 40, "1" * 40, "2" * 40
OVERHEAD = 100.0


def at(text):
    hour, minute = map(int, text.split(":"))
    return datetime(2026, 11, 20, hour, minute)


class Log:
    """A fog's state machine over a log of equal records, whose store answers at once."""

    def __init__(self, rights, *, records=10_000, size=900, clock=lambda: at("12:00"), **traffic):
        settings = {
            "traffic": traffic,
            "planner": {"packet_overhead_bytes": OVERHEAD},
            "wire": {"liveness": 100, "heartbeat_seconds": 60},
        }
        self.size, self.records = size, records
        self.state = FogState(
            FogSettings.model_validate(settings),
            fog_key=FOG,
            log_id=9,
            last_position=records,
            rights=rights,
            seed=1,
            clock=clock,
        )
        self.sent = []

    def say(self, message, key=ONE, now=0.0):
        self.perform(self.state.received(key.encode(), key, message, now))

    def join(self, key=ONE, now=0.0):
        self.say(Hello(epoch=7, position=0, log_id=9, devices=("*",)), key, now)

    def tick(self, now):
        self.perform(self.state.tick(now))

    def perform(self, instructions):
        for instruction in instructions:
            match instruction:
                case Send(_, message, key):
                    self.sent.append((key, message))
                case ReadLog():
                    through = min(
                        instruction.after + max(1, instruction.max_bytes // self.size), self.records
                    )
                    through = min(through, instruction.after + instruction.limit)
                    found = tuple(self.record(n) for n in range(instruction.after + 1, through + 1))
                    page = LogPage(found, through, through < self.records)
                    self.perform(self.state.page_read(instruction.session, page))
                case ReadBlob():
                    payload = bytes(instruction.length)
                    answer = self.state.blob_read(instruction.session, instruction, 1 << 30, payload)
                    self.perform(answer)

    def record(self, position):
        return Record(
            position, RecordKind.PACKET, ONE, 7, position, bytes(32), {}, self.size, bytes(self.size)
        )

    def bytes_to(self, key):
        return sum(
            len(message.payload) + (OVERHEAD if isinstance(message, RecordMessage) else 0)
            for to, message in self.sent
            if to == key and isinstance(message, RecordMessage | Chunk)
        )

    def run(self, seconds, keys=(ONE,), *, step=0.05, fetch=False):
        """Edges confirm what they got at once, and fetch large content all the time if told to."""
        for number in range(1, round(seconds / step) + 1):
            now = number * step
            self.tick(now)
            for key in keys:
                got = [m.position for to, m in self.sent if to == key and isinstance(m, RecordMessage)]
                self.say(Pull(got[-1] if got else 0, 100, 1 << 20), key, now)
                if fetch:
                    self.say(Fetch(bytes(32), 0, 1 << 18), key, now)


def everything(**fields):
    return {key: Device(key, may_subscribe=("*",), **fields) for key in (ONE, TWO)}


def test_a_device_is_sent_no_more_than_its_bandwidth_and_others_are_not_held_up():
    rights = everything() | {ONE: Device(ONE, may_subscribe=("*",), downlink_bytes_per_s=10_000.0)}
    log = Log(rights)
    log.join(ONE)
    log.join(TWO)
    log.run(20, (ONE, TWO))
    assert log.bytes_to(ONE) == pytest.approx(20 * 10_000 + 10_000, abs=2_000), "the burst is one second"
    assert log.bytes_to(TWO) == 10_000 * (900 + OVERHEAD), "the whole log"


def test_the_configuration_holds_for_devices_whose_entry_says_nothing_else():
    rights = everything() | {ONE: Device(ONE, may_subscribe=("*",), downlink_bytes_per_s=40_000.0)}
    log = Log(rights, downlink_bytes_per_s=10_000.0)
    log.join(ONE)
    log.join(TWO)
    log.run(10, (ONE, TWO))
    assert log.bytes_to(ONE) == pytest.approx(4 * log.bytes_to(TWO), rel=0.1)


def test_small_records_pay_for_their_messages_too():
    log = Log(everything(), size=1, downlink_bytes_per_s=10_000.0)
    log.join()
    log.run(10)
    assert log.bytes_to(ONE) == pytest.approx(110_000, abs=2_000)


def test_a_record_larger_than_the_burst_goes_and_is_paid_for():
    log = Log(everything(), size=90_000, downlink_bytes_per_s=10_000.0)
    log.join()
    log.run(30)
    assert len(log.sent) - 1 == 4, "a Welcome; at 0, 8, 17 and 26 seconds"


def test_content_and_records_share_the_bandwidth_and_neither_waits_for_the_other_for_good():
    log = Log(everything(), downlink_bytes_per_s=50_000.0)
    log.join()
    log.run(20, fetch=True)
    assert log.bytes_to(ONE) == pytest.approx(21 * 50_000, rel=0.1)
    kinds = [type(message) for _, message in log.sent]
    assert kinds.count(Chunk) >= 5
    assert kinds.count(RecordMessage) >= 5
    assert max(len(m.payload) for _, m in log.sent if isinstance(m, Chunk)) <= 50_000


def test_a_new_connection_does_not_start_a_new_budget():
    log = Log(everything(), downlink_bytes_per_s=10_000.0)
    for _ in range(5):
        log.join()
        log.say(Pull(0, 100, 1 << 20))
    assert log.bytes_to(ONE) == pytest.approx(10_000, abs=1_000)


def test_outside_of_its_hours_a_device_gets_neither_records_nor_content_but_answers():
    clock = at("21:59")
    log = Log(everything(download_windows=("22:00-06:00",)), records=3, clock=lambda: clock)
    log.join()
    log.say(Pull(0, 100, 1 << 20))
    log.say(Fetch(bytes(32), 0, 1000))
    log.say(Ping())
    log.tick(1.0)
    assert [type(message) for _, message in log.sent[1:]] == [Pong]
    clock = at("22:00")
    log.tick(2.0)
    kinds = [type(message) for _, message in log.sent[2:]]
    assert (kinds.count(Chunk), kinds.count(RecordMessage)) == (1, 3)


def test_new_bounds_hold_when_the_list_changes_and_old_debts_stay_with_old_bounds():
    pacing = DownlinkPacing(FogTrafficSettings(downlink_bytes_per_s=1000.0), 0.0)
    pacing.listed({ONE: Device(ONE), TWO: Device(TWO)})
    for key in (ONE, TWO):
        pacing.sent(key, 1, 100_000, 0.0)
    pacing.listed({ONE: Device(ONE, downlink_bytes_per_s=5000.0), TWO: Device(TWO, name="gate")})
    assert pacing.ready(ONE, 0.1)
    assert not pacing.ready(TWO, 0.1), "its bounds are what they were"
    assert (pacing.limit(ONE), pacing.limit(TWO)) == (5000.0, 1000.0)


@pytest.mark.parametrize("text", ["22-06", "abc 10:00-11:00", "10:00-10:00"])
def test_what_is_no_window_is_named(tmp_path, text):
    with pytest.raises(ConfigError, match=r"traffic\.download_windows"):
        parse_settings(f"traffic: {{download_windows: ['{text}']}}", FogSettings)
    allow = AllowList(tmp_path / "allow.yaml")
    with pytest.raises(ConfigError, match=text.split()[0]):
        allow.add(Device(ONE, download_windows=(text,)))
    assert not allow.path.exists()


def test_the_planner_counts_on_no_more_than_the_bound():
    planner = Planner(PlannerSettings(min_frames=1), FogTrainingSettings())
    planner.tallies = {ONE: Tally(10, 1_000_000, 100_000)}
    planner.subscribers = {ONE: None, TWO: None}
    planner.downlinks = {ONE: 2e6, TWO: None}
    planner.reports = {TWO: Report(downlink_bytes_per_second=1e6)}
    planner.downlink_limits = {ONE: 5e4, TWO: 4e4}
    links = {device.name: device.link for device in planner.deployment().devices}
    assert links[ONE].down == 5e4
    assert links[TWO].down == 4e4
    assert planner.deployment().rates.downlink_bytes_per_s == 5e4
    planner.downlinks = {}
    planner.reports = {}
    assert planner.deployment().rates.downlink_bytes_per_s is None, "a bound is no measurement"


@pytest.fixture
def deployment(tmp_path):
    deployment = Deployment(tmp_path)
    yield deployment
    deployment.end()


def test_fog_node_allow_bounds_a_device_of_a_running_fog(deployment, tmp_path, photo):
    deployment.start_fog()
    source = write_frames(tmp_path / "a", photo, [f"{n:03d}" for n in range(12)])
    writer = deployment.edge("writer", [source], subscribe=()).start()
    writer.wait_for(lambda s: s["outbox"]["acknowledged"] == 12, "the frames are at the fog")
    reader = deployment.edge("reader", upload=False)
    command = [sys.executable, "-m", "fog_node.cli", "allow", reader.keys.public, "--may-subscribe", "*"]
    options = ["--downlink-bytes-per-s", "2000", "--config", deployment.fog.config, "--json"]
    answer = subprocess.run([*command, *options], check=True, capture_output=True)
    assert json.loads(answer.stdout)["downlink_bytes_per_s"] == 2000.0
    reader.start()
    reader.wait_for(lambda s: s["inbox"]["packet"] >= 1, "the first packet")
    since = time.monotonic()
    peer = deployment.fog.wait_for(lambda s: reader.keys.public in s["peers"], "the reader")["peers"]
    assert peer[reader.keys.public]["downlink_limit_bytes_per_s"] == 2000.0
    reader.wait_for(lambda s: s["inbox"]["packet"] == 12, "all packets")
    # A record of the stand-in encoder is 505 bytes and its payload: a second's burst holds three.
    assert time.monotonic() - since > 1.5


def test_a_closed_window_holds_back_records_and_not_the_session(deployment, tmp_path, photo):
    closed = datetime.now().hour + 12
    window = f"{closed % 24:02d}:00-{closed % 24:02d}:30"
    deployment.start_fog(traffic={"download_windows": [window]})
    edge = deployment.edge("one", [write_frames(tmp_path / "a", photo, ["000", "001"])]).start()
    edge.wait_for(lambda s: s["outbox"]["acknowledged"] == 2, "acknowledgements")
    deployment.fog.wait_for(lambda s: s["log_position"] == 2, "the packets")
    time.sleep(0.5)
    assert edge.status()["inbox"]["packet"] == 0
    assert edge.status()["connection"] == "open"
    assert deployment.fog.status()["peers"][edge.keys.public]["download_hours"] is False
    allow = AllowList(deployment.allow.path)
    allow.add(Device(edge.keys.public, True, ("*",), download_windows=("00:00-24:00",)))
    edge.wait_for(lambda s: s["inbox"]["packet"] == 2, "the packets, once it may have them")
