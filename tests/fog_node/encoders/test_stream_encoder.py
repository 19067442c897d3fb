"""Streams with the real codec: what is sent of a camera that stands still, turns, or cuts."""

import cv2
import numpy as np
import pytest

from common.bitstream import Reference, decode_packet
from common.bitstream.keyframe_files import KeyframeFiles
from common.frame import Box, Frame, FrameIdentity, content_digest
from common.images import encode_jpeg, encode_png
from common.store.records import Keyframe
from edge_node.decode_command import decode_files
from fog_node.encode_command import encode_source
from fog_node.encoders.encoder import EncodedFrame, FrameEncoder
from fog_node.encoders.encoder_settings import EncoderSettings
from fog_node.encoders.packet_quality import packet_quality

WIDTH, HEIGHT = 192, 144


def settings(**stream):
    return EncoderSettings.model_validate(
        {"profile": "pyramid", "width": WIDTH, "background_psnr": 27, "object_psnr": 30, "stream": stream}
    )


@pytest.fixture(scope="module")
def scene(photo):
    return cv2.resize(photo, (2 * WIDTH, 2 * HEIGHT), interpolation=cv2.INTER_CUBIC)


def picture(scene, number, *, x=40, y=30, noise=1.5):
    """A view of the scene in which a bright square has moved on."""
    view = scene[y : y + HEIGHT, x : x + WIDTH].astype(np.float32)
    view += np.random.default_rng(number).normal(0, noise, view.shape)
    view[50:80, 10 + 8 * number : 40 + 8 * number] = (230, 200, 40)
    return view.clip(0, 255).astype(np.uint8)


def frame(image, number, device="d" * 40, validation=False):
    box = Box(10 + 8 * number, 50, 40 + 8 * number, 80)
    identity = FrameIdentity(device, 1, number) if device else None
    return Frame(f"{number:03d}", encode_jpeg(image, 95), WIDTH, HEIGHT, True, (box,), identity, validation)


def encoded(frames, **stream):
    return FrameEncoder(settings(**stream), "cpu", threads=1).encode(frames)


def references(results):
    return [isinstance(decode_packet(result.packet).background, Reference) for result in results]


@pytest.fixture(scope="module")
def standing(scene):
    """Frames of a camera that stands still, and their packets."""
    frames = [frame(picture(scene, number), number) for number in range(6)]
    return frames, encoded(frames)


def test_a_fixed_camera_sends_its_background_once(standing):
    _, results = standing
    assert references(results) == [False] + [True] * 5
    first = decode_packet(results[0].packet)
    for result in results[1:]:
        packet = decode_packet(result.packet)
        assert packet.keyframe == content_digest(results[0].packet)
        assert result.keyframe == Keyframe(packet.keyframe, len(results[0].packet))
        assert packet.width, packet.height == (first.width, first.height)
        assert len(result.packet) < len(results[0].packet)


def test_every_frame_is_on_target_as_its_receiver_decodes_it(standing):
    frames, results = standing
    keyframes = {content_digest(result.packet): decode_packet(result.packet) for result in results}
    for item, result in zip(frames, results, strict=True):
        background, objects = packet_quality(item, result.packet, keyframes=keyframes)
        assert result.reached_target
        assert background == pytest.approx(result.background_psnr_db)
        assert background >= 27
        assert min(objects) >= 30


def test_a_camera_that_turns_is_registered_to_its_keyframe(scene):
    frames = [
        frame(picture(scene, number, x=40 + 5 * number, y=30 + 2 * number), number) for number in range(4)
    ]
    results = encoded(frames)
    assert references(results)[1:] == [True] * 3
    views = [decode_packet(result.packet).background for result in results[1:]]
    assert all(view.homography is not None or view.motion is not None for view in views)
    assert all(result.reached_target for result in results)


def test_another_scene_begins_with_a_keyframe(scene):
    patches = np.random.default_rng(0).integers(0, 256, (36, 48, 3), np.uint8)
    cut = cv2.resize(patches, (2 * WIDTH, 2 * HEIGHT), interpolation=cv2.INTER_CUBIC)
    frames = [frame(picture(scene, 0), 0), frame(picture(cut, 1, x=100, y=90), 1)]
    frames.append(frame(picture(cut, 2, x=100, y=90), 2))
    results = encoded(frames)
    assert references(results) == [False, False, True]
    assert decode_packet(results[2].packet).keyframe == content_digest(results[1].packet)


def test_a_keyframe_serves_at_most_so_many_frames(scene):
    frames = [frame(picture(scene, number), number) for number in range(5)]
    assert references(encoded(frames, keyframe_interval=2)) == [False, True, False, True, False]


def test_frames_to_train_on_never_show_a_frame_that_is_held_out(scene):
    held_out = (False, True, False)
    frames = [
        frame(picture(scene, number), number, validation=validation)
        for number, validation in enumerate(held_out)
    ]
    assert references(encoded(frames)) == [False, True, True]
    assert references(encoded(frames[1:])) == [False, False]


@pytest.mark.parametrize("size", [(8, 96), (11, 640), (40, 16)])
def test_thin_frames_of_a_camera_are_encoded(size):
    height, width = size
    rng = np.random.default_rng(0)
    pictures = cv2.GaussianBlur(rng.integers(0, 256, (height, 2 * width, 3), np.uint8), (0, 0), 1.0)
    frames = [
        Frame(str(n), encode_png(pictures[:, n * width : (n + 1) * width].copy()), width, height, False, ())
        for n in range(2)
    ]
    wanted = settings(mode="always").model_copy(update={"width": width})
    results = FrameEncoder(wanted, "cpu", threads=1).encode(frames)
    assert all(isinstance(result, EncodedFrame) and result.reached_target for result in results)


def test_each_camera_has_its_own_keyframe(scene):
    names = ("a" * 40, "b" * 40)
    frames = [frame(picture(scene, n // 2), n // 2, names[n % 2]) for n in range(4)]
    results = encoded(frames)
    assert references(results) == [False, False, True, True]
    keyframes = [decode_packet(result.packet).keyframe for result in results[2:]]
    assert keyframes == [content_digest(result.packet) for result in results[:2]]


def test_only_frames_of_devices_refer_to_others_unless_told_otherwise(scene):
    frames = [frame(picture(scene, number), number, None) for number in range(2)]
    assert references(encoded(frames)) == [False, False]
    assert references(encoded(frames, mode="always")) == [False, True]
    of_device = [frame(picture(scene, number), number) for number in range(2)]
    assert references(encoded(of_device, mode="off")) == [False, False]


def test_packets_of_a_batch_that_is_lost_are_never_referred_to(scene, monkeypatch):
    encoder = FrameEncoder(settings(), "cpu", threads=1)
    frames = [frame(picture(scene, number), number) for number in range(2)]
    finish = encoder._finish

    def failing(item, seconds):
        if item.frame.identity.number == 1:
            raise MemoryError
        return finish(item, seconds)

    monkeypatch.setattr(encoder, "_finish", failing)
    with pytest.raises(MemoryError):
        encoder.encode(frames)
    monkeypatch.undo()
    assert references(encoder.encode(frames)) == [False, True]


@pytest.fixture
def source(tmp_path, scene):
    images = tmp_path / "source" / "img"
    images.mkdir(parents=True)
    lines = []
    for number in range(4):
        item = frame(picture(scene, number), number, None)
        (images / f"{item.name}.jpg").write_bytes(item.image)
        lines.append(f"{10 + 8 * number},50,30,30")
    (images.parent / "groundtruth_rect.txt").write_text("\n".join(lines) + "\n")
    return images.parent


def kept(out):
    return {path.name: path.read_bytes() for path in sorted(out.glob("*.rinr"))}


def test_a_folder_of_a_stream_is_measured_decoded_and_resumed(source, tmp_path):
    out = tmp_path / "packets"
    report, missed = encode_source(source, out, settings(mode="always"), device="cpu", threads=1)
    assert (report["frames"], report["reached_target"], missed) == (4, 1.0, [])
    packets = kept(out)
    assert report["bytes_total"] == sum(map(len, packets.values()))
    assert sum(decode_packet(data).keyframe is not None for data in packets.values()) == 3
    done, damaged = decode_files(out, tmp_path / "pictures", device="cpu")
    assert (done["frames"], damaged) == (4, [])
    # Nothing is done twice.
    encode_source(source, out, settings(mode="always"), device="cpu", threads=1)
    assert kept(out) == packets


def test_frames_whose_keyframe_is_lost_are_encoded_again(source, tmp_path):
    out = tmp_path / "packets"
    encode_source(source, out, settings(mode="always"), device="cpu", threads=1)
    (out / "000.rinr").write_bytes(b"RINR\x02 damaged")
    report, missed = encode_source(source, out, settings(mode="always"), device="cpu", threads=1)
    assert (report["reached_target"], missed) == (1.0, [])
    files = KeyframeFiles(out)
    for path in sorted(out.glob("*.rinr")):
        files.require(path, decode_packet(path.read_bytes()))
