"""The encoder: frames in, packets on target out; a bad frame fails alone."""

import dataclasses

import cv2
import numpy as np
import pytest
import torch

from common.bitstream import decode_packet
from common.errors import EncodeError
from common.frame import Box, Frame, FrameIdentity
from common.images import encode_jpeg, encode_png, image_header
from common.inr.decode import compose_packets
from fog_node.encoders.encoder import EncodedFrame, EncodeFailure, FrameEncoder
from fog_node.encoders.encoder_settings import EncoderSettings
from fog_node.encoders.ladder import Climb, Deadline, architectures
from fog_node.encoders.packet_quality import packet_quality
from fog_node.encoders.pyramid_encoder import PyramidEncoder
from fog_node.encoders.size_choice import background_rung, jpeg_bytes_for, object_rung
from tests.packets import DEVICE

_BASE = EncoderSettings()
EASY = EncoderSettings(
    profile="siren",
    width=96,
    background_psnr=22,
    object_psnr=33,
    time_budget_s=600,
    background=_BASE.background.model_copy(update={"steps": 150, "pixels": 512}),
    object=_BASE.object.model_copy(update={"steps": 200, "pixels": 256}),
)
"""Targets and steps that keep a frame of 96x64 pixels within a second or two."""


def frame_of(rgb, boxes=(), name="a", **kwargs):
    data = encode_png(rgb)
    header = image_header(data)
    return Frame(name, data, header.width, header.height, True, tuple(boxes), **kwargs)


@pytest.fixture(scope="module")
def encoder():
    return FrameEncoder(EASY, "cpu", threads=1)


@pytest.fixture(scope="module")
def pictures():
    """Three natural-like pictures of 96x64 pixels, softened: 1/f noise is harder than photographs."""
    from tests.conftest import make_photo

    return [cv2.GaussianBlur(make_photo(96, 64, seed), (0, 0), 1.5) for seed in range(3)]


def test_packets_reach_both_targets_and_say_what_they_hold(encoder, pictures):
    boxes = (Box(20, 10, 60, 40, "car"), Box(70, -5, 110, 20, "bus"))
    identity = FrameIdentity(DEVICE, 7, 3)
    frames = [frame_of(p, boxes, identity=identity, validation=True) for p in pictures[:2]]
    results = encoder.encode(frames)
    for frame, result in zip(frames, results, strict=True):
        assert isinstance(result, EncodedFrame)
        assert result.reached_target
        assert result.background_psnr_db >= 22
        assert min(result.object_psnr_db) >= 33
        background, objects = packet_quality(frame, result.packet)
        assert background == pytest.approx(result.background_psnr_db, abs=1e-6)
        assert objects == pytest.approx(result.object_psnr_db, abs=1e-6)
        packet = decode_packet(result.packet)
        assert (packet.width, packet.height) == (96, 64)
        assert packet.identity == identity
        assert packet.validation
        assert packet.labelled
        assert packet.source_digest == frame.digest
        assert [box.name for box in packet.boxes] == ["car", "bus"]
        assert packet.boxes[1].region(96, 64) == (70, 0, 96, 20)


def test_residuals_correct_what_the_quantized_background_decodes(encoder, pictures):
    (result,) = encoder.encode([frame_of(pictures[0], [Box(10, 10, 50, 50)])])
    packet = decode_packet(result.packet)
    assert len(packet.objects) == 1
    without = compose_packets([dataclasses.replace(packet, objects=())])[0, :, 10:50, 10:50]
    truth = torch.from_numpy(pictures[0]).permute(2, 0, 1)[:, 10:50, 10:50] / 255
    within = compose_packets([packet])[0, :, 10:50, 10:50]
    assert (within - truth).square().mean() < 0.5 * (without - truth).square().mean()


def test_a_box_that_its_background_already_serves_gets_no_network(pictures):
    encoder = FrameEncoder(EASY.model_copy(update={"background_psnr": 36.0}), "cpu", threads=1)
    flat = np.full((64, 96, 3), 100, np.uint8)
    flat[10:40, 10:40] = pictures[0][10:40, 10:40]
    (result,) = encoder.encode([frame_of(flat, [Box(70, 20, 94, 60), Box(10, 10, 40, 40)])])
    packet = decode_packet(result.packet)
    assert len(packet.boxes) == 2
    assert [item.box for item in packet.objects] == [1]
    assert result.reached_target


def test_overlapping_nested_and_whole_frame_boxes_reach_the_target(encoder, pictures):
    boxes = [Box(10, 10, 50, 50), Box(30, 20, 70, 60), Box(15, 15, 25, 25), Box(15, 15, 25, 25)]
    nested, whole = encoder.encode(
        [frame_of(pictures[0], boxes), frame_of(pictures[1], [Box(-1, -1, 97, 65)])]
    )
    assert nested.reached_target
    assert len(nested.object_psnr_db) == 4
    assert [item.box for item in decode_packet(nested.packet).objects] == [0, 1, 3], "box 2 owns no pixel"
    assert whole.reached_target
    assert whole.background_psnr_db is None


def test_tiny_grey_and_unlabelled_frames(encoder):
    dot = frame_of(np.full((1, 1, 3), 7, np.uint8), [Box(0, 0, 1, 1)])
    ramp = np.repeat(np.arange(96, dtype=np.uint8)[None, :, None] * 2, 64, 0).repeat(3, 2)
    grey = dataclasses.replace(frame_of(ramp), labelled=False)
    first, second = encoder.encode([dot, grey])
    assert first.reached_target
    assert second.reached_target
    assert second.object_psnr_db == []
    assert not decode_packet(second.packet).labelled


def test_a_truncated_frame_fails_alone(encoder, pictures):
    good = frame_of(pictures[0])
    data = encode_jpeg(pictures[1])
    bad = dataclasses.replace(frame_of(pictures[1]), image=data[: len(data) // 2])
    first, second = encoder.encode([bad, good])
    assert isinstance(first, EncodeFailure)
    assert first.reason
    assert "\n" not in first.reason
    assert second.reached_target


def test_boxes_beyond_what_a_decoder_takes_show_the_background(encoder, pictures, monkeypatch):
    monkeypatch.setattr("common.inr.raster.SMALL_FRAME", 0)
    boxes = [Box(n, n, 80 + n, 48 + n) for n in range(6)]
    (result,) = encoder.encode([frame_of(pictures[0], boxes)])
    assert isinstance(result, EncodedFrame)
    assert [patch.box for patch in decode_packet(result.packet).objects] == [0, 1, 2]


@pytest.mark.parametrize("profile", ["siren", "pyramid", "jpeg"])
def test_a_frame_whose_contents_cannot_be_made_fails_alone(pictures, profile, monkeypatch):
    encoder = FrameEncoder(EASY.model_copy(update={"profile": profile}), "cpu", threads=1)
    contents = type(encoder._contents)
    encode = contents.encode

    def refusing(self, items, deadline):
        if any(item.frame.name == "bad" for item in items):
            raise EncodeError("its contents cannot be made")
        encode(self, items, deadline)

    monkeypatch.setattr(contents, "encode", refusing)
    results = encoder.encode([frame_of(pictures[n], name=name) for n, name in enumerate(["a", "bad", "b"])])
    assert [isinstance(result, EncodedFrame) for result in results] == [True, False, True]
    assert results[1].reason == "its contents cannot be made"


def test_a_lost_batch_is_lost_to_its_streams_too(pictures, monkeypatch):
    encoder = FrameEncoder(EASY.model_copy(update={"profile": "pyramid"}), "cpu", threads=1)
    identity = FrameIdentity(DEVICE, 7, 3)
    camera = frame_of(pictures[0], identity=identity)
    encode = PyramidEncoder.encode

    def broken(self, items, deadline):
        if any(item.frame.identity is None for item in items):
            raise RuntimeError("the machine's fault")
        encode(self, items, deadline)

    with monkeypatch.context() as patch:
        patch.setattr(PyramidEncoder, "encode", broken)
        with pytest.raises(RuntimeError):
            encoder.encode([camera, frame_of(pictures[1])])
    (again,) = encoder.encode([camera])
    assert again.keyframe is None, "its first packet was never written"


def test_a_tall_thin_frame_is_refused_before_it_is_enlarged(encoder):
    tall = frame_of(np.zeros((6000, 8, 3), np.uint8))
    (result,) = encoder.encode([tall])
    assert isinstance(result, EncodeFailure)
    assert "8x6000 pixels would be 72000 pixels high" in result.reason


def test_a_network_that_diverges_begins_anew(pictures, monkeypatch):
    import fog_node.encoders.rounds as rounds

    calls = []
    fit = rounds.fit_round

    def diverging_once(stack, *args, **kwargs):
        fitted = fit(stack, *args, **kwargs)
        calls.append(1)
        if len(calls) == 1:
            fitted.weights[0].fill_(float("nan"))
        return fitted

    monkeypatch.setattr(rounds, "fit_round", diverging_once)
    (result,) = FrameEncoder(EASY, "cpu", threads=1).encode([frame_of(pictures[0])])
    assert len(calls) > 1
    assert result.reached_target


def test_a_packet_has_at_most_the_bytes_that_are_asked_for(pictures):
    frame = frame_of(pictures[0], [Box(10, 10, 50, 50)])
    quality = []
    for size in (600, 2400):
        settings = EASY.model_copy(update={"max_packet_bytes": size})
        (result,) = FrameEncoder(settings, "cpu", threads=1).encode([frame])
        assert 0.5 * size < len(result.packet) <= size
        quality.append(result.background_psnr_db)
    assert quality[1] > quality[0]


@pytest.mark.parametrize(
    ("quantization", "pruning"),
    [("uniform", "none"), ("layer_wise", "iterative"), ("none", "dynamic")],
)
def test_other_quantizations_reach_the_target_too(pictures, quantization, pruning):
    changed = {"quantization": quantization, "pruning": pruning}
    settings = EASY.model_copy(
        update={
            "background": EASY.background.model_copy(update=changed),
            "object": EASY.object.model_copy(update=changed),
        }
    )
    (result,) = FrameEncoder(settings, "cpu", threads=1).encode(
        [frame_of(pictures[1], [Box(10, 10, 30, 30)])]
    )
    assert result.reached_target
    network = decode_packet(result.packet).background
    pruned = np.mean([np.mean(layer.weight.values == 0) for layer in network.layers])
    assert (pruned > 0.1) == (pruning != "none")


def test_the_same_seed_gives_the_same_packets(pictures):
    frames = [frame_of(pictures[0], [Box(10, 10, 30, 30)])]
    first, second = (FrameEncoder(EASY, "cpu", threads=1).encode(frames)[0].packet for _ in range(2))
    assert first == second


def test_the_previous_frame_of_a_device_is_a_warm_start(pictures, monkeypatch):
    steps = []
    run = Climb.run

    def spy(self, rows, *args, **kwargs):
        fitted = run(self, rows, *args, **kwargs)
        steps.append(sum(f.steps for f in fitted))
        return fitted

    monkeypatch.setattr(Climb, "run", spy)
    settings = EASY.model_copy(update={"background_psnr": 31.0})
    shifted = np.roll(pictures[0], 1, axis=1)
    for warm in (True, False):
        encoder = FrameEncoder(settings.model_copy(update={"warm_start": warm}), "cpu", threads=1)
        for picture in (pictures[0], pictures[0], shifted):
            (result,) = encoder.encode([frame_of(picture, identity=FrameIdentity(DEVICE, 1, 0))])
            assert result.reached_target
    # Each frame runs the ladder of backgrounds, then that of objects, here with none.
    (_, same, moved), (_, same_cold, moved_cold) = steps[0:6:2], steps[6:12:2]
    assert same == 0, "a background that is on target as it is is not fitted again"
    assert same_cold > 0
    assert moved < moved_cold


def test_the_time_budget_bounds_a_hard_frame():
    noise = np.random.default_rng(0).integers(0, 256, (64, 96, 3)).astype(np.uint8)
    settings = EASY.model_copy(update={"background_psnr": 50.0, "time_budget_s": 3.0})
    (result,) = FrameEncoder(settings, "cpu", threads=1).encode([frame_of(noise)])
    assert not result.reached_target
    assert result.seconds < 20, "far below the minutes that five rounds take"


def test_a_deadline_plans_the_end_of_a_round():
    now = [0.0]
    deadline = Deadline(100.0, clock=lambda: now[0])
    steps_in_all = deadline.limiter(10.0)
    for done in (10, 50, 60):
        now[0] = done / 20
        planned = steps_in_all(done)
    assert planned == 200
    assert deadline.left == 97.0


def test_harder_frames_start_larger(pictures):
    sizes = architectures(EASY.background)
    flat = np.full((64, 96, 3), 90, np.uint8)
    noise = np.random.default_rng(0).integers(0, 256, (360, 640, 3)).astype(np.uint8)
    assert background_rung(flat, 28, sizes) == 0
    assert background_rung(noise, 28, sizes) == len(sizes) - 1
    assert jpeg_bytes_for(pictures[0], 36) > jpeg_bytes_for(pictures[0], 28)
    assert object_rung(10_000, 12, sizes) > object_rung(400, 12, sizes)
    assert object_rung(400, 0, sizes) == 0
