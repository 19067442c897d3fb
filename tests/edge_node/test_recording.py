"""From a source into the durable outbox: what is recorded, once, and what ends a source."""

import time

import pytest
from pydantic import ValidationError

from common.errors import DatasetError
from common.frame import Box, Frame
from common.images import encode_jpeg, encode_png, image_header
from common.store import open_edge_store
from common.store.settings import EdgeStoreSettings
from edge_node.recorder import Recorder, uploadable
from edge_node.settings import EdgeSettings, SourceSettings
from tests.node_processes import write_frames

DEVICE = "d" * 40
STORE = EdgeStoreSettings(min_free_bytes=0)


@pytest.fixture
def store(tmp_path):
    with open_edge_store(tmp_path / "store", DEVICE, STORE) as store:
        yield store


def record(store, base, sources, until=lambda status: status.state == "done", **settings):
    recorded = []
    settings = EdgeSettings.model_validate({"sources": sources, **settings})
    recorder = Recorder(settings, base=base, store=store, on_recorded=lambda: recorded.append(1))
    recorder.start()
    end = time.monotonic() + 10
    while not until(recorder.status):
        assert time.monotonic() < end, recorder.status
        time.sleep(0.005)
    assert len(recorded) == recorder.status.recorded
    return recorder


def outbox(store):
    return store.unacknowledged(1000, 1 << 30)


def test_frames_are_numbered_in_order_and_marked_by_their_blocks(store, tmp_path, photo):
    write_frames(tmp_path / "clip", photo, [f"{n:03d}" for n in range(7)])
    recorder = record(store, tmp_path, [{"path": "clip"}], validation={"block": 5, "held_out": 2})
    assert recorder.status.problems == ()
    frames = outbox(store)
    assert [frame.identity.number for frame in frames] == list(range(7))
    assert [frame.validation for frame in frames] == [False, False, False, True, True, False, False]
    assert all(frame.labelled and len(frame.boxes) == 1 for frame in frames)


def test_a_source_is_recorded_once(store, tmp_path, photo):
    write_frames(tmp_path / "clip", photo, ["000", "001", "002"])
    record(store, tmp_path, [{"path": "clip", "max_frames": 2}])
    recorder = record(store, tmp_path, [{"path": "clip"}])
    assert recorder.status.recorded == 1
    assert len(outbox(store)) == 3


def test_frames_without_labels_are_sent_unlabelled(store, tmp_path, photo):
    write_frames(tmp_path / "clip", photo, ["000"])
    record(store, tmp_path, [{"path": "clip", "labels": "none"}])
    (frame,) = outbox(store)
    assert not frame.labelled
    assert frame.boxes == ()


def test_a_source_of_another_class_ends_with_a_sentence_and_the_next_goes_on(store, tmp_path, photo):
    write_frames(tmp_path / "two", photo, ["000"])
    table = tmp_path / "one.csv"
    (tmp_path / "a.jpg").write_bytes(encode_jpeg(photo))
    table.write_text("frame,x0,y0,w,h,name\na.jpg,1,1,9,9,unicorn\n")
    recorder = record(store, tmp_path, [{"path": "one.csv"}, {"path": "missing"}, {"path": "two"}])
    first, second = recorder.status.problems
    assert "unicorn" in first
    assert "missing" in second
    assert len(outbox(store)) == 1


def yolo(folder, photo, names):
    write_frames(folder, photo, names)
    (folder / "groundtruth_rect.txt").unlink()
    (folder / "img").rename(folder / "images")
    (folder / "labels").mkdir()
    for name in names:
        (folder / "labels" / f"{name}.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    (folder / "data.yaml").write_text("names: [car]\ntrain: images\n")
    return folder


def test_frames_that_cannot_be_read_are_left_out_counted_and_warned_of_once(store, tmp_path, photo, caplog):
    names = ["0", "1", "2", "3", "4"]
    folder = yolo(tmp_path / "clip", photo, names)
    image, label, crowd = (
        folder / "images" / "1.jpg",
        folder / "labels" / "2.txt",
        folder / "labels" / "3.txt",
    )
    whole = image.read_bytes()
    image.write_bytes(whole[:100])
    label.write_text("no label")
    crowd.write_text("0 0.5 0.5 0.2 0.2\n" * 1001)
    settings = {"training": {"detector": {"classes": ["car"]}}}
    recorder = record(store, tmp_path, [{"path": "clip"}], **settings)
    assert recorder.status.skipped == 3
    assert recorder.status.problems == ()
    assert [frame.name for frame in outbox(store)] == ["0", "4"]
    (warning,) = [entry.message for entry in caplog.records]
    assert "1.jpg" in warning

    # Mended, they are recorded at the next start, and no other frame is taken for one of them.
    image.write_bytes(whole)
    label.write_text("")
    recorder = record(store, tmp_path, [{"path": "clip"}], **settings)
    assert (recorder.status.recorded, recorder.status.skipped) == (2, 1)
    assert [frame.name for frame in outbox(store)] == ["0", "4", "1", "2"]


def test_a_source_may_wait_for_a_detector(store, tmp_path, photo):
    write_frames(tmp_path / "clip", photo, ["000"])
    sources = [{"path": "clip", "wait_for_detector": True}]
    recorder = record(
        store, tmp_path, sources, until=lambda status: status.state == "waiting" and status.source
    )
    assert outbox(store) == []
    recorder.detector_deployed()
    end = time.monotonic() + 10
    while recorder.status.state != "done":
        assert time.monotonic() < end
        time.sleep(0.005)
    assert len(outbox(store)) == 1


def test_a_full_outbox_makes_the_recorder_wait_and_go_on(tmp_path, photo):
    write_frames(tmp_path / "clip", photo, ["000", "001"])
    limits = EdgeStoreSettings(min_free_bytes=0, max_outbox_frames=1)
    with open_edge_store(tmp_path / "store", DEVICE, limits) as store:
        recorder = record(store, tmp_path, [{"path": "clip"}], until=lambda status: status.state == "full")
        store.acknowledge([0])
        end = time.monotonic() + 10
        while recorder.status.state != "done":
            assert time.monotonic() < end
            time.sleep(0.01)
        assert [frame.identity.number for frame in outbox(store)] == [1]


def test_a_stopped_recorder_ends_while_it_waits(tmp_path, photo):
    write_frames(tmp_path / "clip", photo, ["000", "001"])
    limits = EdgeStoreSettings(min_free_bytes=0, max_outbox_frames=1)
    with open_edge_store(tmp_path / "store", DEVICE, limits) as store:
        recorder = record(store, tmp_path, [{"path": "clip"}], until=lambda status: status.state == "full")
        assert recorder.stop(5.0)
        assert recorder.status.state == "stopped"


def test_an_image_that_is_no_jpeg_becomes_one(photo):
    frame = Frame("f", encode_png(photo), 96, 72)
    ready = uploadable(frame, SourceSettings(path="x"), EdgeSettings())
    assert image_header(ready.image).format == "JPEG"
    original = Frame("f", encode_jpeg(photo), 96, 72)
    assert uploadable(original, SourceSettings(path="x"), EdgeSettings()).image is original.image


@pytest.mark.parametrize(
    "boxes",
    [
        (Box(1, 1, 9, 9, "n" * 101),),
        tuple(Box(1, 1, 9, 9, "car") for _ in range(1001)),
        tuple(Box(1, 1, 9, 9, "\N{AUTOMOBILE}" * 100) for _ in range(1000)),
    ],
    ids=["a name too long", "too many boxes", "a header too long"],
)
def test_a_frame_that_no_message_can_carry_is_not_recorded(photo, boxes):
    frame = Frame("f", encode_jpeg(photo), 96, 72, labelled=True, boxes=boxes)
    with pytest.raises(DatasetError, match=r"^frame 'f' cannot be uploaded: "):
        uploadable(frame, SourceSettings(path="x"), EdgeSettings())


@pytest.mark.parametrize("devices", [["no key"], ["d" * 40] * 1001, ["d" * 39], ["*" * 2]])
def test_a_subscription_that_no_message_can_carry_is_no_setting(devices):
    with pytest.raises(ValidationError, match=r"subscription\.devices"):
        EdgeSettings.model_validate({"subscription": {"devices": devices}})


def test_a_subscription_names_devices_by_their_keys_or_all():
    settings = EdgeSettings.model_validate(
        {"subscription": {"devices": ["*", "a.-:+=^!/*?&<>()[]{}@%$#" + "0" * 16]}}
    )
    assert len(settings.subscription.devices) == 2


def test_the_rate_of_a_source_is_bounded(store, tmp_path, photo):
    write_frames(tmp_path / "clip", photo, ["000", "001", "002", "003"])
    began = time.monotonic()
    record(store, tmp_path, [{"path": "clip", "frames_per_second": 20}])
    assert time.monotonic() - began >= 3 / 20
