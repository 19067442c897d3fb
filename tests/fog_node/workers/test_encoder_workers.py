"""The encoder process: its messages, and a batch in which one frame is bad."""

import subprocess
import sys

import pytest

from common.errors import EncodeError, MessageError
from common.frame import Box, Frame, FrameIdentity
from common.node.pipe import write_message
from common.store.records import Keyframe
from fog_node.encoder_worker import encode_each
from fog_node.workers.encoder_messages import (
    BatchEncoded,
    EncodeBatch,
    Encoded,
    EncoderReady,
    NotEncoded,
    StartEncoder,
    StopEncoder,
    from_map,
    to_map,
)


def frame(number, name="f"):
    identity = FrameIdentity("d" * 40, 2**63 + 1, number)
    return Frame(name, b"jpeg", 8, 6, True, (Box(1, 2, 3.5, 4, "cat"),), identity, True)


@pytest.mark.parametrize(
    "message",
    [
        StartEncoder({"width": 64}, "cpu", 2),
        EncodeBatch(3, (frame(0), frame(1))),
        StopEncoder(),
        EncoderReady(),
        BatchEncoded(3, (Encoded(b"p", None, (30.5, 31.0), 1.5, False), NotEncoded("no"))),
        BatchEncoded(4, (Encoded(b"p", 30.0, (), 1.5, True, Keyframe(b"k" * 32, 900)),)),
    ],
    ids=lambda message: type(message).__name__,
)
def test_messages_survive_the_pipe(message):
    assert from_map(to_map(message)) == message


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"type": "sing"},
        {"type": "encode", "batch": 1},
        {"type": "encoded", "batch": 1, "results": [{"packet": b""}]},
        {
            "type": "encode",
            "batch": 1,
            "frames": [{**to_map(EncodeBatch(1, (frame(0),)))["frames"][0], "boxes": [[1]]}],
        },
    ],
)
def test_anything_else_is_no_encoder_message(value):
    with pytest.raises(MessageError, match="an encoder message"):
        from_map(value)


def test_only_numbered_frames_are_encoded():
    with pytest.raises(MessageError, match="has no identity"):
        to_map(EncodeBatch(1, (Frame("f", b"", 1, 1),)))


def test_one_bad_frame_costs_its_neighbours_nothing():
    good = Encoded(b"p", 30.0, (), 0.1, True)

    def encoder(frames):
        if any(entry.name == "bad" for entry in frames):
            raise EncodeError("two\nlines")
        return [good for _ in frames]

    results = encode_each(encoder, [frame(0), frame(1, "bad"), frame(2)])
    assert results[0] == results[2] == good
    assert results[1] == NotEncoded("frame 'bad' cannot be encoded: EncodeError: two lines")


def test_an_encoder_that_answers_too_few_frames_is_not_believed():
    results = encode_each(lambda frames: [], [frame(0)])
    assert "gave 0 answers for 1 frames" in results[0].reason


@pytest.mark.parametrize("fault", [MemoryError(), RuntimeError("CUDA error: an illegal memory access")])
def test_a_fault_of_the_machine_is_not_taken_for_a_bad_frame(fault):
    def encoder(frames):
        raise fault

    with pytest.raises(type(fault)):
        encode_each(encoder, [frame(0), frame(1)])


def test_a_batch_too_large_for_the_machine_is_encoded_frame_by_frame():
    good = Encoded(b"p", 30.0, (), 0.1, True)

    def encoder(frames):
        if len(frames) > 1:
            raise MemoryError
        return [good]

    assert encode_each(encoder, [frame(0), frame(1)]) == [good, good]


def test_a_device_that_is_not_there_is_one_sentence_and_no_traceback():
    with subprocess.Popen(
        [sys.executable, "-m", "fog_node.encoder_worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    ) as process:
        write_message(process.stdin, to_map(StartEncoder({}, "cuda:77", 1)), max_bytes=1 << 20)
        err = process.stderr.read().decode()
    assert process.returncode == 2
    assert "cuda:77" in err
    assert "Traceback" not in err
