"""Received weights on an edge whose disk fills up on the way from the log to the detector in use."""

import errno
import time

import pytest

from common.frame import content_digest
from common.node import detector_history, training_rounds
from common.node.jobs import Jobs
from common.node.mailbox import Mailbox
from common.node.training_rounds import TrainingRounds
from common.store import open_edge_store
from common.store.records import Record, RecordKind
from common.store.settings import EdgeStoreSettings
from common.wire.messages import Plan
from edge_node import learner as learner_module
from edge_node.learner import Learner
from edge_node.settings import EdgeSettings

WEIGHTS = b"weights"


class Edge:
    """The learning side of a node that never trains, over a real store."""

    def __init__(self, folder):
        self.mailbox = Mailbox()
        self.store = open_edge_store(folder, "d" * 40, EdgeStoreSettings(min_free_bytes=0))
        self.jobs = Jobs("store", self.mailbox)
        self.deployed = 0
        self.detector = folder / "detector" / "weights.safetensors"
        self.learner = Learner(
            EdgeSettings.model_validate({"training": {"mode": "never"}}),
            folder=folder,
            store=self.store,
            jobs=self.jobs,
            mailbox=self.mailbox,
            on_detector=self.count,
        )

    def count(self):
        self.deployed += 1

    def receive_weights(self):
        digest = content_digest(WEIGHTS)
        record = Record(1, RecordKind.WEIGHTS, "f" * 40, 1, 0, digest, {}, len(WEIGHTS), WEIGHTS)
        self.store.apply([record], 1)
        self.learner.inbox_grew(weights=True)
        self.turn()

    def turn(self, seconds=0.0):
        """Let the store's thread work until nothing is left to do, ``seconds`` from now."""
        end = time.monotonic() + 10
        self.learner.tick(time.monotonic() + seconds)
        while self.jobs.outstanding:
            assert time.monotonic() < end
            for call in self.mailbox.drain():
                call()


@pytest.fixture
def edge(tmp_path):
    edge = Edge(tmp_path)
    yield edge
    edge.jobs.close()
    edge.store.close()
    edge.mailbox.close()


def test_a_plan_that_comes_before_the_frames_are_counted_tells_of_none(edge, monkeypatch):
    # Fewer frames than the last round had would mean that retention has dropped them.
    told = []
    monkeypatch.setattr(TrainingRounds, "frames_known", lambda *known: told.append(known[1]) or [])
    edge.learner.planned(Plan("edge", "it costs least"))
    assert told == []
    packet = Record(1, RecordKind.PACKET, "e" * 40, 1, 0, content_digest(b"p"), {"labelled": True}, 1, b"p")
    edge.store.apply([packet], 1)
    edge.learner.start()
    edge.turn()
    assert told == [1]


def no_room(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    ("module", "wait"),
    [(learner_module, learner_module.LOOK_AGAIN_S), (detector_history, training_rounds.RETRY_S)],
    ids=["as a file", "as the detector in use"],
)
def test_received_weights_that_find_no_room_are_deployed_once_there_is(
    edge, monkeypatch, caplog, module, wait
):
    with monkeypatch.context() as patch:
        patch.setattr(module, "write_durably", no_room)
        edge.receive_weights()
        edge.turn(wait + 1)
        assert caplog.text.count("No space left") == 1, "told once, not at each attempt"
    edge.turn()
    assert (edge.deployed, edge.detector.exists()) == (0, False)
    edge.turn(2 * wait + 2)
    assert edge.detector.read_bytes() == WEIGHTS
    assert edge.deployed == 1
    edge.turn(10 * wait)
    assert edge.deployed == 1
