"""Labels that are corrected at their source, and how the harness knows how far the corrections have come."""

import pytest

from common.datasets import open_source
from common.frame import Box
from common.store import open_edge_store, open_fog_store
from common.store.records import RecordKind
from simulations.chaos.deployment import write_frames
from simulations.chaos.history import History
from simulations.chaos.labels import Tracks, held_labels, note_labels, uncorrected
from simulations.chaos.plan import Recording, Relabel

CAMERA = "c" * 40


@pytest.fixture
def source(tmp_path):
    write_frames(tmp_path / "frames", Recording(6, 0, 1.0), 3)
    return tmp_path / "frames", Tracks(tmp_path / "frames", 6)


def read(folder):
    frames = open_source(folder)
    return [(f"{folder}#{frames.place}", frame) for frame in frames]


def record(store, folder):
    for key, frame in read(folder):
        store.record_frame(key, frame)
        store.correct(key, True, frame.boxes)


def test_corrected_labels_are_what_the_source_says_from_then_on(source):
    folder, tracks = source
    before = [frame.boxes for _, frame in read(folder)]
    assert before == [(Box(9.0, 9.0, 39.0, 29.0, "object"),)] * 6
    changed = tracks.change(Relabel(0.0, 0, 4))
    after = [frame.boxes for _, frame in read(folder)]
    assert 0 < changed == sum(old != new for old, new in zip(before, after, strict=True))


def test_labels_are_behind_until_edge_and_fog_have_the_newest(tmp_path, source):
    folder, tracks = source
    with open_edge_store(tmp_path / "edge", CAMERA) as edge, open_fog_store(tmp_path / "fog") as fog:
        record(edge, folder)
        frames = edge.unacknowledged(10, 1 << 24)
        fog.commit_frames(frames)
        edge.acknowledge(range(6))
        known = {frame.identity for frame in frames}
        assert uncorrected(tmp_path / "edge", tracks, known) == 0
        changed = tracks.change(Relabel(0.0, 0, 4))
        assert uncorrected(tmp_path / "edge", tracks, known) == changed
        record(edge, folder)
        assert uncorrected(tmp_path / "edge", tracks, known) == changed, "the fog has none yet"
        assert uncorrected(tmp_path / "edge", tracks, ()) == 0, "no fog can take them"
        history = History()
        note_labels(history, tmp_path / "edge")
        assert not history.labels
        for correction in edge.waiting_corrections(10):
            fog.correct(correction.identity, correction.revision, True, correction.boxes)
            edge.settle_correction(correction.identity.number, correction.revision)
        assert uncorrected(tmp_path / "edge", tracks, known) == 0
        note_labels(history, tmp_path / "edge")
        assert len(history.labels) == changed
        for item in fog.pending_frames(10):
            fog.finish(item.identity, RecordKind.PACKET, {}, b"packet %d" % item.identity.number)
        assert held_labels(tmp_path / "fog", "log") == history.labels
