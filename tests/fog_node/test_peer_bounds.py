"""What one device may take of the fog, and what its rights and its key are worth, with real sockets."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import zmq

from common.frame import Frame, FrameIdentity
from common.images import encode_jpeg
from common.wire.allow_list import AllowList, Device
from common.wire.framing import decode, encode
from common.wire.messages import (
    Accepted,
    Chunk,
    Error,
    Fetch,
    Hello,
    Ping,
    Pong,
    Pull,
    RecordMessage,
    Refused,
    Upload,
    Welcome,
)
from common.wire.sockets import edge_socket
from tests.node_processes import Deployment
from tests.raw_peer import Peer


@pytest.fixture(scope="module")
def deployment(tmp_path_factory):
    deployment = Deployment(tmp_path_factory.mktemp("bounds"))
    deployment.start_fog()
    yield deployment
    assert deployment.fog.process.poll() is None, "the daemon has lived through all of it"
    deployment.end()


@pytest.fixture
def own(tmp_path):
    deployment = Deployment(tmp_path)
    yield deployment
    deployment.end()


@pytest.fixture
def connect():
    peers = []

    def connect(deployment, **rights):
        peers.append(Peer(deployment, **rights))
        return peers[-1]

    yield connect
    for peer in peers:
        peer.close()


@pytest.fixture(scope="module")
def jpeg(photo):
    return encode_jpeg(photo, 90)


def test_a_message_of_very_many_parts_costs_its_sender_the_connection(deployment, connect, jpeg):
    hostile, good = connect(deployment), connect(deployment)
    hostile.raw([b"x"] * 50_000)
    assert good.upload(0, jpeg) == Accepted(7, (0,))
    deployment.fog.wait_for_log(f"{hostile.node.keys.public} was refused: a message has 1 or 2 frames", 5)
    deployment.fog.wait_for(lambda s: s["wire"]["connections_cut"] >= 1, "the cut", 5)


def test_what_a_peer_pours_in_without_end_is_cut_before_it_fills_the_memory(own, connect, jpeg):
    own.start_fog(
        limits={"unread_bytes": 1 << 20},
        wire={"max_message_bytes": 4 << 20, "heartbeat_seconds": 5.0},
    )
    hostile, good = connect(own), connect(own)
    before = memory(own)
    # The bound is twice the largest message here, 8 MiB. A part of 1 MiB costs this peer no memory: it is
    # the same bytes object again and again, and 200 of them are one message.
    part = bytes(1 << 20)
    most = before
    for _ in range(3):
        try:
            hostile.raw([part] * 200)
        except AssertionError:
            break  # it waits to be connected again
        end = time.monotonic() + 1.0
        while time.monotonic() < end:
            most = max(most, memory(own))
            time.sleep(0.01)
    own.fog.wait_for_log("sends what is not read as fast, or a message without end", 10)
    assert good.upload(0, jpeg) == Accepted(7, (0,))
    assert most - before < 120 << 20, "of 600 MiB"


def memory(deployment):
    """Resident bytes of the fog."""
    pages = Path(f"/proc/{deployment.fog.process.pid}/statm").read_text().split()[1]
    return int(pages) * 4096


def test_a_peer_that_sends_too_many_messages_is_disconnected_and_others_are_not(own, connect, jpeg):
    own.start_fog(limits={"messages_per_s": 50.0})
    hostile, good = connect(own), connect(own)
    for _ in range(400):
        if hostile.socket.poll(1000, zmq.POLLOUT):
            hostile.socket.send_multipart(encode(Ping()), zmq.NOBLOCK)
    own.fog.wait_for_log(f"{hostile.node.keys.public} sends more messages than limits.")
    assert good.upload(0, jpeg) == Accepted(7, (0,))
    assert own.fog.text().count("it is disconnected") <= 5, "the log is not filled either"


def test_uploads_beyond_the_rate_are_refused_for_now_and_the_peer_is_told_when(own, connect, jpeg):
    own.start_fog(limits={"uploads_per_s": 5.0})
    peer = connect(own)
    assert peer.welcome.max_uploads_per_s == 5.0
    answers = [peer.upload(number, jpeg) for number in range(20)]
    refusals = [answer for answer in answers if isinstance(answer, Refused)]
    assert len(refusals) >= 5
    assert {answer.code for answer in refusals} == {"too_fast"}
    assert not any(answer.permanent for answer in refusals)
    assert all(0 < answer.retry_after_s <= 1 for answer in refusals)
    time.sleep(1.0)
    assert peer.upload(refusals[0].number, jpeg) == Accepted(7, (refusals[0].number,))


def test_garbage_without_end_does_not_fill_the_log(deployment, connect):
    peer = connect(deployment)
    for number in range(300):
        peer.raw([b"garbage %d" % number])
    for _ in range(300):
        assert peer.answer(Error).code == "bad_message"
    assert deployment.fog.text().count(f"a message of {peer.node.keys.public} was refused") <= 5


# Rights


def test_a_key_taken_off_the_list_is_disconnected_within_five_seconds_even_if_it_does_not_listen(
    deployment, connect, jpeg
):
    peer, good = connect(deployment), connect(deployment)
    peer.send(Pull(0, 1_000_000, 1 << 40))
    assert peer.upload(0, jpeg) == Accepted(7, (0,))
    monitor = peer.socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
    listed = [device for device in deployment.allow.devices if device.key != peer.node.keys.public]
    since = time.monotonic()
    rewrite(deployment.allow.path, listed)
    assert monitor.poll(5000), "the connection itself ends"
    assert time.monotonic() - since < 5
    deployment.fog.wait_for(
        lambda s: not s["peers"].get(peer.node.keys.public, {}).get("connected"), "the end of the session", 5
    )
    while peer.socket.poll(200):
        peer.socket.recv_multipart()
    assert good.upload(0, jpeg) == Accepted(7, (0,))
    good.send(Pull(0, 1_000_000, 1 << 40))
    good.answer(RecordMessage)
    # No data after: neither is anything taken from it, nor does the new record reach it.
    peer.socket.send_multipart(encode(Ping()), zmq.NOBLOCK) if peer.socket.poll(0, zmq.POLLOUT) else None
    assert not peer.socket.poll(1000)
    peer.socket.disable_monitor()
    monitor.close(0)


def rewrite(path, devices):
    """The allow list with these devices, replaced in one step as an editor does."""
    part = path.with_suffix(".part")
    part.unlink(missing_ok=True)
    edited = AllowList(part)
    part.touch(0o600)
    for device in devices:
        edited.add(device)
    part.replace(path)


def test_the_right_to_upload_taken_away_holds_for_the_running_session(deployment, connect, jpeg):
    peer = connect(deployment)
    assert peer.upload(0, jpeg) == Accepted(7, (0,))
    deployment.allow.add(Device(peer.node.keys.public, False, ("*",)))
    assert peer.answer(Error).code == "no_session"
    late = peer.upload(1, jpeg)
    assert late.code == "no_session", "a peer that does not say Hello again has no session"
    peer.send(Hello(epoch=7, position=0))
    assert peer.answer(Welcome).may_upload is False
    answer = peer.upload(1, jpeg)
    assert isinstance(answer, Refused)
    assert answer.code == "not_allowed"


def test_the_right_to_subscribe_taken_away_holds_for_the_running_session(deployment, connect, jpeg):
    reader, writer = connect(deployment), connect(deployment)
    deployment.allow.add(Device(reader.node.keys.public, False, (writer.node.keys.public,)))
    assert reader.answer(Error).code == "no_session"
    reader.send(Hello(epoch=7, position=0, devices=("*",)))
    reader.answer(Welcome)
    reader.send(Pull(0, 1_000_000, 1 << 40))
    assert writer.upload(0, jpeg) == Accepted(7, (0,))
    record = reader.answer(RecordMessage)
    assert record.device == writer.node.keys.public
    deployment.allow.add(Device(reader.node.keys.public))
    assert reader.answer(Error).code == "no_session"
    reader.send(Hello(epoch=7, position=0, devices=("*", writer.node.keys.public)))
    reader.answer(Welcome)
    reader.send(Pull(0, 1_000_000, 1 << 40))
    assert writer.upload(1, jpeg) == Accepted(7, (1,))
    reader.send(Fetch(record.digest, 0, 100))
    assert reader.answer(RecordMessage, Chunk, Error).code == "not_found", "nor by its hash"


def test_a_subscription_without_the_right_receives_nothing(deployment, connect, jpeg):
    writer = connect(deployment)
    reader = connect(deployment, subscribe=())
    reader.send(Pull(0, 1_000_000, 1 << 40))
    assert writer.upload(0, jpeg) == Accepted(7, (0,))
    with pytest.raises(AssertionError, match="RecordMessage"):
        reader.answer(RecordMessage, seconds=1.0)


def test_a_stolen_routing_id_gets_the_thief_nothing(deployment, connect, jpeg):
    owner = connect(deployment)
    thief = deployment.edge(f"peer{len(deployment.nodes)}")
    context = zmq.Context()
    address = deployment.fog.settings["address"]
    sockets = []
    # The fog's socket makes the ids: what a peer asks for is either given to it alone or refused.
    for wanted in (b"edge", b"edge"):
        socket = context.socket(zmq.DEALER)
        socket.setsockopt(zmq.ROUTING_ID, wanted)
        socket.setsockopt(zmq.CURVE_SERVERKEY, deployment.fog.keys.public.encode())
        socket.setsockopt(zmq.CURVE_PUBLICKEY, thief.keys.public.encode())
        socket.setsockopt(zmq.CURVE_SECRETKEY, thief.keys.secret.encode())
        socket.setsockopt(zmq.IMMEDIATE, 1)
        socket.connect(address)
        sockets.append(socket)
        if socket.poll(1000, zmq.POLLOUT):
            socket.send_multipart(encode(Ping()), zmq.NOBLOCK)
        identity = FrameIdentity(owner.node.keys.public, 7, 5)
        upload = Upload.of(Frame("stolen", jpeg, 96, 72, True, (), identity))
        if socket.poll(200, zmq.POLLOUT):
            socket.send_multipart(encode(upload), zmq.NOBLOCK)
        answers = []
        while socket.poll(500):
            answers.append(decode(socket.recv_multipart()).code)
        owner.send(Ping())
        owner.answer(Pong)
        # To the second of the same name the fog's socket does not listen at all.
        assert answers == (["no_session"] * 2 if len(sockets) == 1 else [])
    assert owner.upload(0, jpeg) == Accepted(7, (0,)), "the owner's session was not touched"
    for socket in sockets:
        socket.close(0)
    context.term()


def test_an_oversized_message_costs_its_sender_the_connection(deployment, connect, jpeg):
    hostile, good = connect(deployment), connect(deployment)
    monitor = hostile.socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
    hostile.raw([encode(Ping())[0], bytes((16 << 20) + 1)])
    assert monitor.poll(5000)
    assert good.upload(0, jpeg) == Accepted(7, (0,))
    hostile.socket.disable_monitor()
    monitor.close(0)


def test_an_unknown_key_is_not_let_in(deployment):
    stranger = deployment.edge(f"peer{len(deployment.nodes)}", allowed=False)
    context = zmq.Context()
    socket = edge_socket(
        context, deployment.fog.settings["address"], stranger.keys, deployment.fog.keys.public
    )
    assert not socket.poll(1000, zmq.POLLOUT), "the handshake never ends"
    socket.close(0)
    context.term()
