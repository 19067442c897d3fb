"""An edge node over a real store whose disk fills up, and a fog that answers what it must not."""

import errno
import time

import pytest

from common.errors import StoreFullError
from common.frame import Box, Frame, content_digest
from common.images import encode_jpeg
from common.node.mailbox import Mailbox
from common.store import open_edge_store
from common.store.records import Record, RecordKind
from common.store.settings import EdgeStoreSettings
from common.wire.framing import encode
from common.wire.messages import Accepted, CaughtUp, Pull, RecordMessage, Refused, Upload, Welcome
from edge_node import fog_session, node
from edge_node.fogs import FogPart, KnownFog
from edge_node.node import EdgeNode
from edge_node.settings import EdgeSettings

DEVICE = "d" * 40
LOG = 7


class Edge:
    """A node whose fog is a list of what was sent."""

    def __init__(self, folder):
        self.mailbox = Mailbox()
        self.store = open_edge_store(folder / "store", DEVICE, EdgeStoreSettings(min_free_bytes=0))
        self.sent = []
        settings = EdgeSettings.model_validate({"training": {"mode": "never"}})
        self.node = EdgeNode(
            settings,
            base=folder,
            folder=folder / "store",
            store=self.store,
            mailbox=self.mailbox,
            parts=[FogPart(KnownFog("tcp://fog:1", "f" * 40), True, ("*",), ("packet", "weights"))],
            send=self.send,
        )

    def send(self, part, message):
        encode(message)
        self.sent.append(message)

    def welcome(self):
        self.node.own.welcomed(Welcome(1, LOG, 0, DEVICE, "f" * 40, True, 1 << 20, 8, 1 << 16, 1.0))
        self.turn()

    def receive(self, message):
        self.node.own.received(message, 100)
        self.turn()

    def turn(self):
        """Let the store's thread and the timers run until nothing is left to do."""
        end = time.monotonic() + 10
        while True:
            self.node.tick(time.monotonic())
            for call in self.mailbox.drain():
                call()
            if not self.node._jobs.outstanding:
                return
            assert time.monotonic() < end

    def of_type(self, kind):
        return [message for message in self.sent if isinstance(message, kind)]


@pytest.fixture
def edge(tmp_path, monkeypatch):
    monkeypatch.setattr(fog_session, "RETRY_S", 0.05)
    monkeypatch.setattr(node, "RETRY_S", 0.05)
    edge = Edge(tmp_path)
    yield edge
    edge.node.close()
    edge.store.close()
    edge.mailbox.close()


@pytest.fixture
def full(edge, monkeypatch):
    """Fills the disk as far as one method of the store is concerned; what it returns makes room."""

    def fill(method):
        def refuse(*_):
            raise StoreFullError(f"no space left ({errno.ENOSPC})")

        monkeypatch.setattr(edge.store, method, refuse, raising=True)
        return lambda: monkeypatch.delattr(edge.store, method)

    return fill


def packet(position):
    payload = b"packet"
    record = Record(
        position, RecordKind.PACKET, "e" * 40, 1, position, content_digest(payload), {}, len(payload), payload
    )
    return RecordMessage.of(record)


def frame(photo, number, **facts):
    picture = photo.copy()
    picture[0, 0] = number
    return Frame(f"frame {number}", encode_jpeg(picture, 90), 96, 72, **facts)


def test_received_records_wait_for_room_on_the_disk_in_the_same_session(edge, full):
    edge.welcome()
    make_room = full("apply")
    for position in (1, 2):
        edge.receive(packet(position))
    edge.receive(CaughtUp(5))
    assert len(edge.of_type(Pull)) == 1, "nothing more is asked for"
    make_room()
    time.sleep(0.06)
    edge.turn()
    assert edge.store.position == 5
    assert edge.store.count(RecordKind.PACKET) == 2
    assert edge.of_type(Pull)[-1].position == 5


def test_a_session_begins_once_the_store_can_follow_its_log(edge, full):
    make_room = full("follow")
    edge.welcome()
    assert edge.sent == []
    make_room()
    time.sleep(0.06)
    edge.turn()
    assert [message.position for message in edge.of_type(Pull)] == [0]


def test_frames_whose_acknowledgement_found_no_room_leave_the_outbox_later(edge, full, photo):
    edge.store.record_frame("a", frame(photo, 0))
    edge.welcome()
    make_room = full("acknowledge")
    edge.receive(Accepted(edge.store.epoch, (0,)))
    make_room()
    time.sleep(0.06)
    edge.turn()
    assert [upload.number for upload in edge.of_type(Upload)] == [0, 0]
    edge.receive(Accepted(edge.store.epoch, (0,)))
    assert edge.store.outbox_state().waiting == 0


def test_a_frame_that_no_message_can_carry_is_refused_for_good_and_the_next_goes(edge, photo):
    boxes = tuple(Box(1, 1, 9, 9, "n" * 101) for _ in range(2))
    edge.store.record_frame("a", frame(photo, 0, labelled=True, boxes=boxes))
    edge.store.record_frame("b", frame(photo, 1))
    edge.welcome()
    assert [upload.number for upload in edge.of_type(Upload)] == [1]
    ((number, reason),) = edge.store.refused()
    assert number == 0
    assert "boxes" in reason


def test_answers_to_uploads_of_an_earlier_installation_settle_nothing(edge, photo):
    edge.store.record_frame("a", frame(photo, 0))
    edge.store.record_frame("b", frame(photo, 1))
    edge.welcome()
    earlier = edge.store.epoch ^ 1
    edge.receive(Accepted(earlier, (0,)))
    edge.receive(Refused(earlier, 1, "bad_image", "it is cut off", True))
    assert edge.store.outbox_state().waiting == 2
    assert edge.node.sender.uploading.in_flight == 2
    edge.receive(Accepted(edge.store.epoch, (0, 1)))
    assert edge.store.outbox_state().acknowledged == 2
