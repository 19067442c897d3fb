"""Pyramids, image files and references are resident as few bytes and decode to their packets' pixels."""

import gc
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch

from common.bitstream import Pyramid
from common.inr.compose import to_bytes
from common.inr.decode import compose_packets, resize
from common.learning.batches import decode_batch
from common.learning.letterbox import FILL, letterbox_content
from common.learning.raster_frame import RasterFrame, render_frames
from common.learning.raster_store import RasterStore
from common.learning.resident import ResidentStore
from common.learning.settings import TrainingSettings
from tests.learning_packets import random_network, random_packet
from tests.raster_packets import (
    damaged,
    image_packet,
    keyframe_of,
    pyramid_packet,
    reference_packet,
)

BOXES = ((4, 5, 20, 17), (10, 8, 15, 13), (30, 1, 44, 31))


def make_store(budget=1 << 24, when_full="evict"):
    return ResidentStore("cpu", budget, TrainingSettings(), when_full)


@pytest.fixture(scope="module")
def keyframes():
    return dict(
        [keyframe_of(pyramid_packet(7)), keyframe_of(random_packet(3)), keyframe_of(image_packet("webp", 8))]
    )


@pytest.fixture(scope="module")
def packets(keyframes):
    pyramid, network, image = keyframes
    return [
        pyramid_packet(0),
        random_packet(1, width=64, height=40),
        pyramid_packet(1, boxes=BOXES),
        image_packet("jpeg", 2, boxes=BOXES),
        reference_packet(pyramid, 3),
        pyramid_packet(4, width=37, height=51, boxes=((0, 0, 37, 51), (5, 5, 6, 6))),
        image_packet("avif", 5),
        reference_packet(network, 6, turned=True, boxes=BOXES, kind="network"),
        random_packet(2),
        reference_packet(image, 7, turned=True, kind="jpeg"),
        pyramid_packet(8, width=9, height=3, boxes=()),
        reference_packet(pyramid, 9, turned=True, boxes=BOXES),
    ]


@pytest.fixture(scope="module")
def store(packets, keyframes):
    made = make_store()
    assert made.add(packets, keyframes).trainable == len(packets)
    return made


def test_a_frame_is_its_packet_composed_and_resized_into_the_letterbox(store, packets, keyframes):
    images = decode_batch(store, torch.arange(len(packets)), 64)["img"]
    for image, packet in zip(images, packets, strict=True):
        size = torch.tensor([[packet.height, packet.width]])
        top, left, height, width = letterbox_content(size, 64)[0].tolist()
        own = to_bytes(compose_packets([packet], (height, width), keyframes=keyframes))[0]
        assert torch.equal(image[:, top : top + height, left : left + width], own)
        outside = image.clone()
        outside[:, top : top + height, left : left + width] = FILL
        assert (outside == FILL).all()


@pytest.mark.parametrize("seed", range(4))
def test_pixels_do_not_depend_on_the_batch(store, packets, seed):
    alone = [decode_batch(store, torch.tensor([n]), 64)["img"][0] for n in range(len(packets))]
    order = np.random.default_rng(seed).permutation(len(packets))
    for part in (order[:5], order[5:], np.repeat(order[:2], 2)):
        batch = decode_batch(store, torch.from_numpy(part), 64)["img"]
        for place, number in enumerate(part.tolist()):
            assert torch.equal(batch[place], alone[number])


def test_pixels_do_not_depend_on_how_many_are_decoded_at_a_time(store, packets, monkeypatch):
    frames = torch.arange(len(packets))
    together = decode_batch(store, frames, 64)["img"]
    monkeypatch.setattr("common.learning.raster_store.CPU_PIXELS", 1)
    assert torch.equal(decode_batch(store, frames, 64)["img"], together)


def test_keyframes_count_towards_what_is_decoded_at_a_time(monkeypatch):
    store = RasterStore(torch.device("cpu"))
    for seed in range(6):
        digest, keyframe = keyframe_of(pyramid_packet(seed // 2, width=96, height=64, boxes=()))
        store.append(store.prepare(reference_packet(digest, seed, turned=True, boxes=()), {digest: keyframe}))
    runs = []

    def counted(frames, device, filtered):
        runs.append(len(frames))
        return render_frames(frames, device, filtered)

    monkeypatch.setattr("common.learning.raster_store.render_frames", counted)
    monkeypatch.setattr("common.learning.raster_store.CPU_PIXELS", 2 * 48 * 32 + 96 * 64)
    assert [place for place, _ in store.images(range(6))] == list(range(6))
    assert runs == [2, 2, 2]


def test_a_pyramid_that_is_shrunk_is_decoded_without_its_filter():
    store = make_store()
    store.add([pyramid_packet(3, width=256, height=256, boxes=())])
    frame = torch.tensor([0])
    kept, left_out = (next(store.rasters.images([0], filtered))[1] for filtered in (True, False))
    assert not torch.equal(kept, left_out)
    assert torch.equal(decode_batch(store, frame, 256)["img"][0], to_bytes(kept))
    assert torch.equal(decode_batch(store, frame, 160)["img"][0], to_bytes(resize(kept, (160, 160))))
    shrunk = decode_batch(store, frame, 128)["img"][0]
    assert torch.equal(shrunk, to_bytes(resize(left_out, (128, 128))))
    error = (shrunk.double() - to_bytes(resize(kept, (128, 128))).double()).square().mean()
    assert 10 * torch.log10(255**2 / error) > 42, "what the filter does is averaged away"
    # Half the coded size, enlarged as much as the default augmentation does.
    closer = decode_batch(store, frame, 154)["img"][0]
    assert torch.equal(closer, to_bytes(resize(left_out, (154, 154))))


def test_networks_that_would_take_minutes_are_left_out_and_named():
    rng = np.random.default_rng(0)
    large = random_network(rng, 200, 4, np.int16)
    packet = random_packet(1, boxes=[(0, 0, 64, 64)] * 500)
    hostile = replace(packet, objects=tuple(replace(patch, content=large) for patch in packet.objects))
    store = make_store()
    added = store.add([random_packet(0), hostile])
    assert (added.trainable, len(store)) == (1, 1)
    assert [place for place, _ in added.damaged] == [1]
    assert "parameters a pixel" in added.damaged[0][1]


def test_supersampling_averages_the_finer_image():
    store = make_store()
    store.add([pyramid_packet(0, width=64), image_packet("jpeg", 1, width=64, height=64)])
    fine = decode_batch(store, torch.arange(2), 128)["img"].float()
    soft = decode_batch(store, torch.arange(2), 64, supersample=2)["img"].float()
    assert (torch.nn.functional.avg_pool2d(fine, 2) - soft).abs().max() <= 1


def test_decoding_a_batch_changes_nothing_that_is_resident(store, packets):
    frames = torch.arange(len(packets))
    first = decode_batch(store, frames, 64)["img"]
    assert torch.equal(decode_batch(store, frames, 64)["img"], first)


def test_integers_are_decoded_once_on_arrival(store, monkeypatch):
    def refuse(*_arguments, **_keys):
        raise AssertionError("an entropy decoder ran again")

    monkeypatch.setattr("common.pyramid.decoder.decode_grids", refuse)
    decode_batch(store, torch.arange(len(store)), 64)


def test_packets_that_cannot_be_decoded_are_left_out_and_named_and_the_others_train(keyframes):
    pyramid, *_ = keyframes
    broken = replace(pyramid_packet(1), background=Pyramid(b"none", 1.0, b""))
    offered = [
        pyramid_packet(0),
        damaged(image_packet("jpeg", 1)),
        reference_packet(bytes(32), 2),
        broken,
        reference_packet(pyramid, 3, width=40),
        random_packet(4),
    ]
    store = make_store()
    added = store.add(offered, keyframes)
    assert (added.trainable, len(store)) == (2, 2)
    assert [place for place, _ in added.damaged] == [1, 2, 3, 4]
    assert "fetch it first" in added.damaged[1][1]
    assert "6e6f6e65, which is not installed" in added.damaged[2][1]
    assert "48x32 pixels, the packet 40x32" in added.damaged[3][1]


def test_a_keyframe_lies_in_memory_once_and_goes_with_its_last_frame():
    keyframe = pyramid_packet(0, width=200, height=160, boxes=())
    digest, packet = keyframe_of(keyframe)
    store = RasterStore(torch.device("cpu"))
    own = store.prepare(keyframe, {})
    store.append(own)
    alone = store.nbytes
    frames = [
        store.prepare(reference_packet(digest, i, width=200, height=160), {digest: packet}) for i in (1, 2)
    ]
    assert {id(frame.background) for frame in frames} == {id(own.background)}
    for frame in frames:
        store.append(frame)
    assert store.nbytes == alone + sum(frame.nbytes for frame in frames)
    background, still = own.background.nbytes, weakref.ref(own.background)
    del own, frames, frame
    store.drop([0])
    assert store.nbytes > background
    assert len(list(store.images([1, 2]))) == 2
    store.drop([2, 1])
    gc.collect()
    assert store.nbytes == 0
    assert still() is None


def test_a_keyframe_that_is_resident_need_not_be_decoded_again(monkeypatch):
    digest, packet = keyframe_of(pyramid_packet(0))
    store = make_store()
    store.add([packet])
    monkeypatch.setattr(RasterStore, "_content", None)
    frame = replace(reference_packet(digest, 1, boxes=()), labelled=True)
    bare = replace(frame, background=replace(frame.background, updates=()))
    assert store.add([bare], {digest: packet}).trainable == 1


@pytest.mark.parametrize("when_full", ["evict", "refuse"])
def test_the_budget_holds_and_the_kept_frames_stay_intact(when_full):
    budget = 60_000
    store = make_store(budget, when_full)
    digest, keyframe = keyframe_of(pyramid_packet(0))
    packets, kept, live = [], 0, {}
    for i in range(10):
        new = [
            pyramid_packet(i, boxes=BOXES[: i % 4]),
            image_packet("jpeg", i),
            reference_packet(digest, i),
            random_packet(i),
        ]
        packets += new
        end = store.end
        added = store.add(new, {digest: keyframe})
        if added.refused == 0:
            live |= dict(zip(range(end, store.end), new, strict=True))
        kept += added.trainable - added.evicted
        assert store.nbytes <= budget
        assert len(store) == kept
    assert 0 < len(store) < len(packets)
    if when_full == "evict":
        reference = make_store()
        reference.add([live[number] for number in store.numbers.tolist()], {digest: keyframe})
        got, want = decode_batch(store, store.numbers, 64), decode_batch(reference, reference.numbers, 64)
        assert all(torch.equal(got[k], want[k]) for k in ("img", "cls", "bboxes", "batch_idx"))


def test_a_pyramid_takes_a_small_part_of_the_memory_of_its_pixels():
    store = make_store()
    store.add([pyramid_packet(i, width=320, height=240) for i in range(4)])
    assert store.rasters.nbytes / 4 < 0.1 * 3 * 320 * 240


def test_the_bytes_of_a_frame_are_those_of_its_data_and_more():
    frame = RasterStore(torch.device("cpu")).prepare(pyramid_packet(0, boxes=BOXES), {})
    assert isinstance(frame, RasterFrame)
    data = sum(layer.content.grids.entries.nbytes for layer in frame.layers)
    assert data < frame.nbytes + frame.background.nbytes < data + 10_000


def test_a_gpu_decodes_as_much_at_a_time_as_is_set_and_free(monkeypatch):
    store = RasterStore(torch.device("cuda"), decode_bytes=64 << 20)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 3000)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 1000)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1 << 40, 1 << 40))
    assert store._pixels_at_a_time() == 1 << 20
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: ((1 << 20) - 2000, 1 << 40))
    assert store._pixels_at_a_time() == (1 << 20) // 4 // 64
