"""Boxes from the deployed detector: which frames get them, and what happens when there is no answer."""

import json
import os
import signal
import time
from pathlib import Path

import pytest
from pydantic import ValidationError

from common.frame import Box
from common.store import open_edge_store
from common.store.settings import EdgeStoreSettings
from edge_node.labeller import Labeller, labeller_of
from edge_node.labelling import judge
from edge_node.labelling_settings import LabellingSettings
from edge_node.recorder import Recorder
from edge_node.settings import EdgeSettings
from tests.node_processes import write_frames

DEVICE = "d" * 40
CLASSES = ("car", "bus")
QUICK = {"restart_first_s": 0.05, "restart_max_s": 0.05, "terminate_s": 2.0}
SURE = [1.0, 2.0, 30.0, 40.0, 0.9, 1.0]


def detection(confidence, index=0.0):
    return [*SURE[:4], confidence, index]


class TestDecision:
    RULES = LabellingSettings(confidence=0.6, doubt=0.3, max_boxes=2)

    def verdict(self, *detections, **changes):
        rules = LabellingSettings.model_validate({**self.RULES.model_dump(), **changes})
        found = judge(detections, CLASSES, rules)
        return found.why, found.boxes

    def test_sure_detections_become_boxes_of_the_deployments_classes(self):
        assert self.verdict(detection(0.6), SURE) == (
            "labelled",
            (Box(1, 2, 30, 40, "car"), Box(1, 2, 30, 40, "bus")),
        )

    def test_a_frame_with_a_doubtful_detection_stays_unlabelled(self):
        assert self.verdict(SURE, detection(0.3)) == ("doubtful", None)
        assert self.verdict(detection(0.59)) == ("doubtful", None)
        assert self.verdict(SURE, detection(0.29))[0] == "labelled"

    def test_doubt_as_high_as_confidence_passes_over_what_is_below(self):
        assert self.verdict(SURE, detection(0.5), doubt=0.6)[0] == "labelled"

    def test_a_frame_with_too_many_boxes_stays_unlabelled(self):
        assert self.verdict(*[SURE] * 2)[0] == "labelled"
        assert self.verdict(*[SURE] * 3) == ("too_many", None)

    def test_a_frame_without_detections_is_a_negative_only_when_asked_for(self):
        assert self.verdict() == ("nothing_seen", None)
        assert self.verdict(negatives=True) == ("negative", ())
        assert self.verdict(detection(0.4), negatives=True) == ("doubtful", None)

    def test_doubt_above_confidence_is_refused(self):
        with pytest.raises(ValidationError, match="doubt"):
            LabellingSettings(confidence=0.3, doubt=0.5)


@pytest.fixture
def detector(tmp_path):
    """Writes what the detector in use sees."""
    path = tmp_path / "weights.safetensors"

    def write(**says):
        path.with_name("ends").unlink(missing_ok=True)
        path.write_text(json.dumps({"detections": [SURE], **says}))
        return path

    write.path = path
    return write


@pytest.fixture
def clip(tmp_path, photo):
    return write_frames(tmp_path / "clip", photo, [f"{n:03d}" for n in range(5)])


@pytest.fixture(autouse=True)
def stub(monkeypatch):
    tests = str(Path(__file__).resolve().parents[1])
    known = os.environ.get("PYTHONPATH", "")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(part for part in (tests, known) if part))


class Edge:
    """A recorder with its store and its labelling process."""

    def __init__(self, folder, detector, source, **labelling):
        self.settings = EdgeSettings.model_validate(
            {
                "sources": [{"path": "clip", "labels": "detector", **source}],
                "labelling": {"module": "stub_labeller", **labelling},
                "children": QUICK,
                "training": {"detector": {"classes": list(CLASSES)}},
                "validation": {"block": 5, "held_out": 1},
            }
        )
        self.store = open_edge_store(folder / "store", DEVICE, EdgeStoreSettings(min_free_bytes=0))
        self.labeller = labeller_of(self.settings, detector)
        self.recorder = Recorder(
            self.settings, base=folder, store=self.store, on_recorded=lambda: None, labeller=self.labeller
        )
        self.recorder.start()

    def done(self, seconds=30):
        end = time.monotonic() + seconds
        while self.recorder.status.state != "done":
            assert time.monotonic() < end, self.recorder.status
            time.sleep(0.01)
        return self.frames()

    def frames(self):
        return self.store.unacknowledged(100, 1 << 30)

    def counts(self):
        return self.labeller.status()["frames"]

    def end(self):
        self.recorder.stop(5)
        if self.labeller is not None and self.labeller.child is not None:
            self.labeller.child.terminate(signal.SIGKILL)
            self.labeller.child.wait(5)
        self.store.close()


@pytest.fixture
def edge(tmp_path, clip, detector):
    edges = []

    def make(source=None, **labelling):
        edges.append(Edge(tmp_path, detector.path, source or {}, **labelling))
        return edges[-1]

    yield make
    for one in edges:
        one.end()


def labels(frames):
    return [len(frame.boxes) if frame.labelled else None for frame in frames]


def test_frames_get_the_detectors_boxes_but_validation_frames_get_none(edge, detector):
    detector()
    made = edge()
    frames = made.done()
    assert labels(frames) == [1, 1, 1, 1, None]
    assert frames[0].boxes == (Box(1, 2, 30, 40, "bus"),), "and not those of the label file"
    assert [frame.validation for frame in frames] == [False] * 4 + [True]
    assert made.counts() == {"labelled": 4, "held_out": 1}


def test_a_frame_is_labelled_once_and_not_corrected_at_a_later_look(edge, detector):
    detector()
    made = edge()
    made.done()
    made.end()
    detector(detections=[SURE, SURE])
    again = edge({"again_s": 1})
    end = time.monotonic() + 20
    while again.recorder.status.state != "watching":
        assert time.monotonic() < end
        time.sleep(0.01)
    again.store.acknowledge(range(5))
    assert again.recorder.status.recorded == again.recorder.status.corrected == 0
    assert again.store.waiting_corrections(9) == []


def test_without_a_detector_frames_go_unlabelled_or_wait(edge, detector):
    made = edge()
    assert labels(made.done()) == [None] * 5
    assert made.counts() == {"no_detector": 4, "held_out": 1}
    assert made.labeller.child is None


def test_a_source_that_waits_for_the_detector_is_labelled_from_its_first_frame(edge, detector):
    made = edge({"wait_for_detector": True})
    time.sleep(0.2)
    assert made.recorder.status.state == "waiting"
    detector()
    made.recorder.detector_deployed()
    assert labels(made.done()) == [1, 1, 1, 1, None]


def test_a_process_that_dies_is_replaced_and_the_frame_is_asked_about_again(edge, detector):
    detector(die=2)
    assert labels(edge(tries=3).done()) == [1, 1, 1, 1, None]


def test_a_process_that_hangs_is_replaced(edge, detector):
    detector(hang=1)
    assert labels(edge(tries=2, timeout_s=5).done(60)) == [1, 1, 1, 1, None]


def test_a_process_that_always_dies_costs_no_frame(edge, detector):
    detector(die=1000)
    made = edge({"max_frames": 2}, tries=2)
    assert labels(made.done()) == [None, None]
    assert made.counts() == {"failed": 2}
    assert "exit code 9" in made.labeller.status()["problem"]


def test_a_module_that_cannot_start_costs_no_frame(edge, detector):
    detector()
    made = edge({"max_frames": 2}, tries=2, module="no_such_module_here")
    assert labels(made.done()) == [None, None]


def test_what_the_process_cannot_read_goes_unlabelled_and_is_named(edge, detector):
    detector(reason="the detector knows other classes")
    made = edge()
    assert labels(made.done()) == [None] * 5
    assert "other classes" in made.labeller.status()["problem"]


@pytest.mark.parametrize("row", [[1, 2], [1, 2, 1, 2, 0.9, 0], [1, 2, 3, 4, 0.9, 7], "text"])
def test_boxes_that_are_none_leave_the_frame_unlabelled(edge, detector, row):
    detector(detections=[row])
    assert labels(edge({"max_frames": 1}).done()) == [None]


def test_a_stop_while_a_frame_waits_leaves_it_for_the_next_start(edge, detector):
    detector(hang=1)
    made = edge()
    end = time.monotonic() + 20
    while made.labeller.child is None:
        assert time.monotonic() < end
        time.sleep(0.01)
    assert made.recorder.stop(5)
    assert made.frames() == []
    made.end()
    detector()
    assert labels(edge().done()) == [1, 1, 1, 1, None]


def test_no_process_is_made_for_sources_that_do_not_ask(detector):
    assert labeller_of(EdgeSettings.model_validate({"sources": [{"path": "clip"}]}), detector.path) is None
    assert isinstance(
        labeller_of(
            EdgeSettings.model_validate({"sources": [{"path": "c", "labels": "detector"}]}), detector.path
        ),
        Labeller,
    )
