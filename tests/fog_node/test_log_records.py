"""What an encoded frame becomes in the log."""

import pytest

from common.frame import Frame, FrameIdentity, content_digest
from common.store.memory_fog import MemoryFogStore
from common.store.records import Keyframe, RecordKind
from common.store.rows import keyframe_of
from fog_node.encoding import Finish
from fog_node.log_records import finish_frames
from fog_node.workers.encoder_messages import Encoded


def encoded(number, packet, keyframe=None):
    identity = FrameIdentity("d" * 40, 1, number)
    frame = Frame("f", bytes([number]), 8, 6, identity=identity)
    return Finish(identity, frame, Encoded(packet, 30.0, (), 0.1, True, keyframe))


@pytest.fixture
def store():
    with MemoryFogStore() as store:
        yield store


def finish(store, items):
    store.commit_frames([item.frame for item in items])
    return finish_frames(store, items)


def test_a_packet_names_its_keyframe_in_the_log(store):
    keyframe = Keyframe(content_digest(b"key"), 3)
    assert finish(store, [encoded(0, b"key"), encoded(1, b"p", keyframe)]) == 2
    first, second = store.read(0, 10, 1000).records
    assert keyframe_of(first.meta) is None
    assert keyframe_of(second.meta) == keyframe


def test_a_packet_whose_keyframe_has_left_the_log_becomes_a_tombstone(store):
    finish(store, [encoded(0, b"key")])
    store.trim(1)
    finish(store, [encoded(1, b"p", Keyframe(content_digest(b"key"), 3))])
    (record,) = store.read(1, 10, 1000).records
    assert record.kind is RecordKind.TOMBSTONE
    assert record.meta["reason"] == "its keyframe is no longer in the log"
