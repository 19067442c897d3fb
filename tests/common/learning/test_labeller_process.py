"""The labelling process as an edge's daemon sees it: a real process with a real, if untrained, detector."""

import queue

import numpy as np
import pytest
import torch

from common.images import encode_jpeg, encode_png
from common.learning.detector import build_detector, snapshot
from common.learning.labeller import Eye
from common.learning.settings import TrainingSettings
from common.learning.weights import write_weights
from common.node.child import Child
from common.node.labelling_messages import (
    LABELLER_MODULE,
    Look,
    NotSeen,
    Seen,
    StartLabelling,
    from_map,
    to_map,
)
from common.node.learning_messages import Stop

SETTINGS = TrainingSettings(imgsz=64, classes=("car", "bus"), device="cpu")


def start(**changes):
    values = {
        "training": SETTINGS.model_dump(mode="json"),
        "device": "cpu",
        "threads": 1,
        "nice": 0,
        "least_confidence": 0.0001,
        "most_detections": 5,
        "frame_pixels": 10_000,
        "frame_bytes": 100_000,
    }
    return StartLabelling(**values | changes)


def weights(path, classes=SETTINGS.classes, seed=0):
    detector = build_detector("yolov8n.yaml", classes, seed)
    write_weights(path, snapshot(detector, "yolov8n.yaml", classes, 64))
    return str(path)


class Known:
    """A detector that sees what it is told, in pixels of the square image."""

    def __init__(self, *boxes):
        self.boxes = boxes
        self.seen = None

    def __call__(self, image):
        self.seen = image
        rows = [
            [(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0, score, 0.0]
            for x0, y0, x1, y1, score in self.boxes
        ]
        return torch.tensor(rows).T[None]


@pytest.mark.parametrize(
    ("size", "box", "expected"),
    [
        ((32, 64), (8, 24, 24, 40), (8, 8, 24, 24)),
        ((64, 128), (8, 24, 24, 40), (16, 16, 48, 48)),
        ((128, 64), (24, 8, 40, 24), (16, 16, 48, 48)),
        ((32, 64), (0, 10, 64, 60), (0, 0, 64, 32)),
    ],
)
def test_boxes_come_in_pixels_of_the_image_and_inside_it(monkeypatch, size, box, expected):
    detector = Known((*box, 0.9), (2, 0, 60, 9, 0.8) if size == (32, 64) else (*box, 0.85))
    monkeypatch.setattr(Eye, "_in_use", lambda self, path: detector)
    found = Eye(start()).look("", encode_png(np.zeros((*size, 3), np.uint8)))
    assert len(found) == 1, "what lies in the letterbox's border, or is the same box again, is not told"
    assert found[0] == pytest.approx([*expected, 0.9, 0.0], abs=1e-4)
    assert detector.seen.shape == (1, 3, 64, 64)


def test_the_process_answers_each_look_and_reads_a_new_detector(tmp_path):
    said, code = queue.Queue(), queue.Queue()
    child = Child(LABELLER_MODULE, on_message=said.put, on_exit=code.put, threads=1, arguments=["1000000"])
    image = encode_jpeg(np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8))
    path = tmp_path / "weights.safetensors"

    def look(ticket, data=image):
        child.send(to_map(Look(ticket, str(path), data)))
        return from_map(said.get(timeout=120))

    child.send(to_map(start()))
    missing = look(1)
    assert isinstance(missing, NotSeen)
    assert "weights.safetensors" in missing.reason
    weights(path)
    first = look(2)
    assert isinstance(first, Seen)
    assert first.ticket == 2
    assert 0 < len(first.detections) <= 5
    for x0, y0, x1, y1, confidence, index in first.detections:
        assert 0 <= x0 < x1 <= 64
        assert 0 <= y0 < y1 <= 48
        assert 0.0001 <= confidence <= 1
        assert index in (0, 1)
    weights(path, seed=1)
    assert look(3).detections != first.detections
    damaged = look(4, image[:100])
    assert isinstance(damaged, NotSeen)
    large = look(5, encode_png(np.zeros((101, 100, 3), np.uint8)))
    assert isinstance(large, NotSeen), "an image beyond the limits is not decoded"
    weights(path, classes=("car", "tram"))
    other = look(6)
    assert isinstance(other, NotSeen)
    assert "tram" in other.reason
    child.send(to_map(Stop()))
    assert code.get(timeout=30) == 0
