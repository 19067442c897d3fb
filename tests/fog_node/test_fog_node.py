"""A fog node without its socket, with a real store: what it sends, and what it does when something fails."""

import time

import pytest

from common.errors import MessageError, StoreCorruptError, StoreError
from common.frame import Frame, FrameIdentity, content_digest
from common.node.mailbox import Mailbox
from common.store.memory_fog import MemoryFogStore
from common.store.records import RecordKind
from common.wire.allow_list import AllowList, Device
from common.wire.framing import encode
from common.wire.messages import CaughtUp, Chunk, Error, Fetch, Hello, Pull, RecordMessage
from fog_node.node import FogNode
from fog_node.settings import FogSettings

FOG, ONE, TWO = "F" * 40, "1" * 40, "2" * 40


class Fog:
    """A node whose edges take what they are sent until ``refusing`` says otherwise."""

    def __init__(self, folder, store):
        self.store = store
        self.sent = []
        self.refusing = lambda key, message: False
        self.mailbox = Mailbox()
        allow = AllowList(folder / "allow.yaml")
        for key in (ONE, TWO):
            allow.add(Device(key, may_upload=True, may_subscribe=("*",)))
        self.node = FogNode(
            FogSettings.model_validate({"workers": {"workers": 0}, "planner": {"min_frames": 1}}),
            key=FOG,
            folder=folder,
            store=store,
            allow=allow,
            mailbox=self.mailbox,
            send=self._send,
        )

    def _send(self, routing_id, key, message):
        encode(message)
        if self.refusing(key, message):
            return False
        self.sent.append((key, message))
        return True

    def say(self, message, key=ONE):
        self.node.received(key.encode(), key, message)

    def until(self, condition):
        end = time.monotonic() + 5
        while not condition():
            assert time.monotonic() < end, self.sent
            for call in self.mailbox.drain():
                call()
            time.sleep(0.001)

    def messages(self, kind, key=ONE):
        return [message for to, message in self.sent if to == key and isinstance(message, kind)]

    def close(self):
        self.node.close()
        self.mailbox.close()


@pytest.fixture
def store():
    return MemoryFogStore()


@pytest.fixture
def fog(tmp_path, store):
    fog = Fog(tmp_path, store)
    yield fog
    fog.close()


def fill(store, count, **meta):
    frames = [Frame(f"{n}", b"jpeg", 4, 4, identity=FrameIdentity(ONE, 7, n)) for n in range(count)]
    store.commit_frames(frames)
    for frame in frames:
        store.finish(frame.identity, RecordKind.PACKET, meta, b"packet")
    return store


@pytest.fixture
def hello():
    return Hello(epoch=7, position=0, devices=("*",))


def test_behind_a_record_that_was_not_taken_nothing_follows(tmp_path, store, hello):
    fog = Fog(tmp_path, fill(store, 5))
    taken = []

    def full_for_a_moment(key, message):
        taken.append(message)
        return isinstance(message, RecordMessage) and message.position == 2

    fog.refusing = full_for_a_moment
    fog.say(hello)
    fog.say(Pull(0, 100, 1 << 20))
    fog.until(lambda: ONE not in fog.node.state.sessions)
    assert [message.position for message in fog.messages(RecordMessage)] == [1]
    assert [m.position for m in taken if isinstance(m, RecordMessage)] == [1, 2]
    fog.close()


def test_other_edges_get_theirs_though_one_takes_nothing(fog, store, hello):
    for key in (ONE, TWO):
        fog.say(hello, key)
        fog.say(Pull(0, 100, 1 << 20), key)
    fog.refusing = lambda key, message: key == ONE
    fill(store, 2)
    fog.node.perform(fog.node.state.log_grew(2))
    fog.until(lambda: len(fog.messages(RecordMessage, TWO)) == 2)


def test_in_the_place_of_a_record_that_cannot_travel_comes_a_gap(tmp_path, store, hello):
    store.append(RecordKind.WEIGHTS, FOG, 1, 0, {"reason": "x" * 250_000}, b"weights")
    with pytest.raises(MessageError):
        encode(RecordMessage.of(store.read(0, 1, 1).records[0]))
    fog = Fog(tmp_path, fill(store, 1))
    fog.say(hello)
    fog.say(Pull(0, 100, 1 << 20))
    fog.until(lambda: len(fog.messages(RecordMessage)) == 2)
    gap, packet = fog.messages(RecordMessage)
    assert (gap.kind, gap.position, gap.to_record().meta["count"]) == ("gap", 1, 1)
    assert (packet.kind, packet.position) == ("packet", 2)
    assert not fog.messages(CaughtUp)
    fog.close()


def test_content_that_cannot_be_read_for_a_moment_is_not_said_to_be_absent(fog, store, hello, monkeypatch):
    digest = content_digest(b"weights")
    store.append(RecordKind.WEIGHTS, FOG, 1, 0, {}, b"weights")
    fog.say(hello)

    def answers(error):
        def fail(*_):
            raise error

        with monkeypatch.context() as patch:
            patch.setattr(store, "blob", fail)
            before = len(fog.messages(Error))
            fog.say(Fetch(digest, 0, 100))
            fog.until(lambda: len(fog.messages(Error)) > before)
        return fog.messages(Error)[-1]

    failed = answers(StoreError("too many open files"))
    assert (failed.code, failed.digest) == ("internal", digest)
    assert answers(StoreCorruptError("it is damaged")).code == "not_found"
    fog.say(Fetch(digest, 0, 100))
    fog.until(lambda: fog.messages(Chunk))
    assert fog.messages(Chunk)[0].payload == b"weights"


def test_the_planner_counts_the_connected_edges_only(tmp_path, store, hello):
    fog = Fog(tmp_path, fill(store, 2, jpeg_bytes=1000))

    def receivers():
        fog.node.plan()
        return fog.node.status()["plan"].get("mean_receivers")

    for key in (ONE, TWO):
        fog.say(hello, key)
    fog.until(lambda: receivers() == 1.0)
    fog.node.state.unreachable(TWO.encode(), TWO)
    assert receivers() == 0.0
    fog.say(hello, TWO)
    assert receivers() == 1.0
    for key in (ONE, TWO):
        fog.node.state.unreachable(key.encode(), key)
    assert receivers() == 1.0, "the last plan stands while nobody is connected"
    fog.close()
