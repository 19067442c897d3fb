"""During an upgrade a fog and an edge of neighbouring versions work together, end to end."""

from __future__ import annotations

import threading
import time

import msgpack
import pytest
import zmq

from common.frame import content_digest
from common.images import encode_jpeg
from common.wire import keys
from common.wire.allow_list import AllowList, Device
from common.wire.fields import PROTOCOL_VERSION
from common.wire.framing import decode
from common.wire.messages import Hello, Ping, Upload
from common.wire.sockets import arrival, authenticating, edge_socket, fog_socket, port_of
from tests.node_processes import Deployment, write_frames

VERSIONS = {
    "older": (PROTOCOL_VERSION - 1, {}),
    "newer": (PROTOCOL_VERSION + 1, {"of_tomorrow": {"a": [1, "x"]}, "also": None}),
}
"""Protocol version of the neighbour, and the fields that only it knows."""

NEW_FIELDS = ("features", "more_kinds", "priority", "retry_after_s")
"""Fields that the version before does not have."""


@pytest.fixture
def deployment(tmp_path):
    deployment = Deployment(tmp_path)
    yield deployment
    deployment.end()


@pytest.fixture(params=VERSIONS)
def neighbour(request):
    return VERSIONS[request.param]


@pytest.mark.parametrize("age", VERSIONS)
def test_an_edge_of_a_neighbouring_version_uploads_and_receives(deployment, photo, age):
    version, extra = VERSIONS[age]
    deployment.start_fog()
    edge = deployment.edge("neighbour")
    image = encode_jpeg(photo, 90)
    context = zmq.Context()
    socket = edge_socket(context, deployment.fog.settings["address"], edge.keys, deployment.fog.keys.public)

    def send(kind, *payload, **fields):
        assert socket.poll(5000, zmq.POLLOUT)
        socket.send_multipart([msgpack.packb({"v": version, "t": kind, **fields, **extra}), *payload])

    def answer(kind):
        """What a node of that version reads of the next message of this kind."""
        while socket.poll(10_000):
            header, *payload = socket.recv_multipart()
            fields = msgpack.unpackb(header)
            assert abs(fields["v"] - version) <= 1, "it would refuse this"
            if fields["t"] == kind:
                return fields, payload
        raise AssertionError(f"no {kind} came")

    try:
        send("Hello", epoch=7, position=0, log_id=None, devices=["*"], kinds=["packet", "gap"])
        assert answer("Welcome")[0]["may_upload"] is True
        send(
            "Upload",
            image,
            epoch=7,
            number=0,
            name="f",
            width=96,
            height=72,
            labelled=True,
            boxes=[[1.0, 2.0, 30.0, 40.0, "object"]],
            validation=False,
            digest=content_digest(image),
        )
        assert answer("Accepted")[0]["numbers"] == [0]
        send("Pull", position=0, records=10, payload_bytes=1 << 20)
        fields, (packet,) = answer("RecordMessage")
        assert fields["device"] == edge.keys.public
        assert content_digest(packet) == fields["digest"]
        if extra:
            send("OfTomorrow", question=1)
            assert answer("Error")[0]["code"] == "bad_message"
        send("Ping")
        answer("Pong")
    finally:
        socket.close(0)
        context.term()


class NeighbouringFog:
    """A fog of another version in a thread: it welcomes, takes uploads, and gives what it was told."""

    def __init__(self, folder, version, extra):
        self.folder, self.version, self.extra = folder, version, extra
        self.keys = keys.generate(folder / "keys")
        self.allow = AllowList(folder / "allow.yaml")
        self.uploads = []
        self.headers = []
        self.ended = threading.Event()
        self.ready = threading.Event()
        self.port = 0
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self):
        context = zmq.Context()
        with authenticating(context, self.allow):
            socket = fog_socket(context, "tcp://127.0.0.1:0", self.keys)
            self.port = port_of(socket)
            self.ready.set()
            while not self.ended.is_set():
                if socket.poll(50):
                    arrived = arrival(socket.recv_multipart(copy=False))
                    self.headers.append(msgpack.unpackb(arrived.frames[0]))
                    for header in self.answers(arrived, decode(arrived.frames)):
                        socket.send_multipart([arrived.routing_id, msgpack.packb(header)])
            socket.close(0)
        context.term()

    def message(self, kind, **fields):
        return {"v": self.version, "t": kind, **fields, **self.extra}

    def answers(self, arrived, message):
        if isinstance(message, Hello):
            yield self.message(
                "Welcome",
                session=1,
                log_id=5,
                last_position=0,
                device=arrived.device,
                fog=self.keys.public,
                may_upload=True,
                max_upload_bytes=1 << 20,
                max_uploads=4,
                chunk_bytes=1 << 16,
                heartbeat_seconds=0.2,
            )
            if self.extra:
                yield self.message("OfTomorrow", news=1)
        elif isinstance(message, Upload):
            self.uploads.append(message)
            yield self.message("Accepted", epoch=message.epoch, numbers=[message.number])
        elif isinstance(message, Ping):
            yield self.message("Pong")


def test_a_fog_of_a_neighbouring_version_serves_an_edge(deployment, tmp_path, photo, neighbour):
    fog = NeighbouringFog(tmp_path / "other", *neighbour)
    edge = deployment.edge("one", [write_frames(tmp_path / "a", photo, ["000", "001", "002"])], allowed=False)
    fog.allow.add(Device(edge.keys.public, may_upload=True))
    fog.thread.start()
    try:
        assert fog.ready.wait(10)
        edge.start(fog={"address": f"tcp://127.0.0.1:{fog.port}", "public_key": fog.keys.public})
        edge.wait_for(lambda s: s["outbox"]["acknowledged"] == 3, "three acknowledgements")
        time.sleep(1.0)
        status = edge.status()
        assert status["connection"] == "open"
        assert status["problem"] == ""
        assert edge.text().count("connected to the fog") == 1, "the session never broke"
        if fog.extra:
            assert "is newer than this node" in edge.text()
    finally:
        fog.ended.set()
        fog.thread.join(10)
    assert sorted(upload.number for upload in fog.uploads) == [0, 1, 2]
    assert all(header["v"] == PROTOCOL_VERSION for header in fog.headers)
    if not fog.extra:
        first = {name for name in fog.headers[0] if name not in NEW_FIELDS}
        assert first == {"v", "t", "epoch", "position", "log_id", "devices", "kinds", "software"}
