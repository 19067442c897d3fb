"""Whatever an allowed peer sends, it gets one clear sentence, the daemon lives and nothing is lost."""

from __future__ import annotations

import struct
import time

import msgpack
import pytest
import zmq

from common.frame import Frame, FrameIdentity
from common.images import encode_jpeg, encode_png
from common.wire.framing import decode, encode
from common.wire.messages import (
    Accepted,
    Error,
    Ping,
    Pong,
    Pull,
    RecordMessage,
    Refused,
    Upload,
)
from common.wire.sockets import edge_socket
from tests.node_processes import Deployment
from tests.raw_peer import Peer


@pytest.fixture(scope="module")
def deployment(tmp_path_factory):
    deployment = Deployment(tmp_path_factory.mktemp("hostile"))
    deployment.start_fog()
    yield deployment
    deployment.end()


@pytest.fixture
def peer(deployment):
    peer = Peer(deployment)
    yield peer
    # After every attack the same session still takes a good frame, in the same process.
    try:
        peer.send(Ping())
        peer.answer(Pong)
        assert deployment.fog.process.poll() is None
    finally:
        peer.close()


@pytest.fixture(scope="module")
def jpeg(photo):
    return encode_jpeg(photo, 90)


def refused(answer, code, sentence):
    assert isinstance(answer, Refused), answer
    assert answer.permanent
    assert answer.code == code
    assert sentence in answer.sentence
    assert answer.sentence.count("\n") == 0


def test_a_truncated_jpeg_is_refused_and_the_next_frame_taken(peer, jpeg):
    refused(peer.upload(0, jpeg[: len(jpeg) // 2]), "bad_image", "is truncated or damaged")
    assert peer.upload(1, jpeg) == Accepted(7, (1,))


def test_what_is_no_image_is_refused(peer):
    refused(peer.upload(0, b"GIF89a, not at all a JPEG"), "bad_image", "no readable image")


def test_a_png_is_refused(peer, photo):
    refused(peer.upload(0, encode_png(photo)), "bad_image", "is a PNG; devices upload JPEG")


def test_a_header_of_40000_by_40000_pixels_is_refused(peer, jpeg):
    start = jpeg.index(b"\xff\xc0")
    huge = jpeg[: start + 5] + struct.pack(">HH", 40_000, 40_000) + jpeg[start + 9 :]
    refused(peer.upload(0, huge, 40_000, 40_000), "bad_image", "40000x40000 pixels, more than the limit")


def test_a_size_that_is_not_the_images_is_refused(peer, jpeg):
    refused(peer.upload(0, jpeg, 100, 72), "bad_image", "announced as 100x72 pixels")


@pytest.mark.parametrize(
    "box",
    [(5, 5, 5, 9, "object"), (9, 5, 5, 9, "object"), (5, 5, 9, 5, "object")],
    ids=["zero", "negative", "flat"],
)
def test_a_box_without_size_is_refused(peer, jpeg, box):
    box = tuple(float(value) if not isinstance(value, str) else value for value in box)
    refused(peer.upload(0, jpeg, boxes=(box,)), "bad_box", "no positive width and height")


def test_a_box_of_an_unknown_class_is_refused(peer, jpeg):
    refused(
        peer.upload(0, jpeg, boxes=((1.0, 1.0, 9.0, 9.0, "unicorn"),)), "unknown_class", "class 'unicorn'"
    )


def header_of(message, **changes):
    fields = msgpack.unpackb(encode(message)[0])
    return msgpack.packb({**fields, **changes})


def test_a_box_with_nan_is_a_malformed_message(peer, jpeg):
    identity = FrameIdentity(peer.node.keys.public, 7, 0)
    upload = Upload.of(Frame("frame", jpeg, 96, 72, True, (), identity))
    box = [float("nan"), 1.0, 9.0, 9.0, "object"]
    peer.raw([header_of(upload, boxes=[box]), jpeg])
    answer = peer.answer(Error, Accepted, Refused)
    assert isinstance(answer, Error)
    assert answer.code == "bad_message"


def test_an_image_that_does_not_match_its_digest_is_refused(peer, jpeg):
    refused(peer.upload(0, jpeg, digest=bytes(32)), "bad_message", "does not match its digest")


def test_a_message_of_another_version_is_named(peer):
    peer.raw([header_of(Ping(), v=99)])
    answer = peer.answer(Error)
    assert answer.code == "bad_version"
    assert "protocol version 99" in answer.sentence


@pytest.mark.parametrize("frames", [[b""], [b"garbage"], [b"a", b"b", b"c"], [msgpack.packb([1, 2])]])
def test_garbage_is_answered_by_one_sentence(peer, frames):
    peer.raw(frames)
    assert peer.answer(Error).code == "bad_message"


def test_the_same_number_with_the_same_bytes_is_accepted_again_and_stored_once(peer, deployment, jpeg):
    assert peer.upload(5, jpeg) == Accepted(7, (5,))
    assert peer.upload(5, jpeg) == Accepted(7, (5,))
    peer.send(Pull(0, 1000, 1 << 20))
    positions = []
    # Until a record has come and silence behind it; a slow machine encodes late.
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and (peer.socket.poll(300) or not positions):
        if not peer.socket.poll(0):
            continue
        message = decode(peer.socket.recv_multipart())
        if isinstance(message, RecordMessage) and message.device == peer.node.keys.public:
            positions.append(message.position)
    assert len(positions) == 1


def test_the_same_number_with_other_bytes_is_refused(peer, photo, jpeg):
    assert peer.upload(5, jpeg) == Accepted(7, (5,))
    refused(peer.upload(5, encode_jpeg(photo, 50)), "conflict", "frame numbers are never reused")


def test_an_upload_of_another_epoch_than_the_session_is_refused(peer, jpeg):
    peer.epoch = 8
    refused(peer.upload(0, jpeg), "bad_message", "of epoch 8, its session of epoch 7")


def test_a_peer_without_hello_is_told_to_say_it(deployment, jpeg):
    peer = Peer(deployment)
    second = edge_socket(
        peer.context, deployment.fog.settings["address"], peer.node.keys, deployment.fog.keys.public
    )
    assert second.poll(5000, zmq.POLLOUT)
    second.send_multipart(encode(Ping()))
    assert second.poll(5000)
    answer = decode(second.recv_multipart())
    assert isinstance(answer, Error)
    assert answer.code == "no_session"
    second.close(0)
    peer.close()


def test_a_peer_that_pulls_and_never_reads_holds_up_nobody(deployment, jpeg):
    slow = Peer(deployment)
    quick = Peer(deployment)
    slow.send(Pull(0, 1_000_000, 1 << 40))
    for number in range(40):
        assert quick.upload(number, jpeg) == Accepted(7, (number,))
    slow.close()
    quick.close()
