"""The packet: what is written is read back, and nothing malformed gets past the parser."""

import struct
import tracemalloc
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from common.bitstream import (
    ObjectPatch,
    Pyramid,
    Reference,
    Update,
    decode_packet,
    encode_packet,
    label_box,
)
from common.bitstream.codec import FORMAT_VERSION, MAX_PACKET_BYTES
from common.bitstream.image_files import image_file
from common.errors import PacketChecksumError, PacketError, PacketFormatError, PacketVersionError
from common.frame import Box
from common.inr.compose import to_bytes
from common.inr.decode import compose_packets
from tests.packets import random_network, random_packet

AVIF = image_file(np.full((9, 7, 3), 9, np.uint8), "avif", 50)

GOLDEN = Path(__file__).with_name("golden")


def resealed(data):
    """``data`` with its length and checksum made right again, so that the fields themselves are tested."""
    data = bytearray(data)
    data[6:10] = struct.pack("<I", len(data))
    data[-4:] = struct.pack("<I", zlib.crc32(bytes(data[:-4])))
    return bytes(data)


@pytest.mark.parametrize("boxes", [0, 1, 5])
@pytest.mark.parametrize("identity", [True, False])
def test_a_packet_survives_the_bytes(boxes, identity):
    packet = random_packet(3, boxes=boxes, identity=identity)
    data = encode_packet(packet)
    again = decode_packet(data)
    for name in (
        "profile",
        "width",
        "height",
        "labelled",
        "validation",
        "boxes",
        "source_digest",
        "identity",
    ):
        assert getattr(again, name) == getattr(packet, name), name
    assert [(o.box, o.residual_scale) for o in again.objects] == [
        (o.box, o.residual_scale) for o in packet.objects
    ]
    networks = zip(
        [packet.background, *(o.content for o in packet.objects)],
        [again.background, *(o.content for o in again.objects)],
        strict=True,
    )
    for before, after in networks:
        assert after.w0 == before.w0
        for old, new in zip(before.layers, after.layers, strict=True):
            for a, b in ((old.weight, new.weight), (old.bias, new.bias)):
                assert a.scale == b.scale
                assert a.values.dtype == b.values.dtype
                np.testing.assert_array_equal(a.values, b.values)
    assert encode_packet(again) == data


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.rinr")), ids=lambda p: p.stem)
def test_golden_packets_decode_to_their_pixels(path):
    data = path.read_bytes()
    packet = decode_packet(data)
    pixels = to_bytes(compose_packets([packet]))[0].permute(1, 2, 0).numpy()
    stored = np.load(path.with_suffix(".npy"))
    difference = np.abs(pixels.astype(int) - stored)
    assert difference.max() <= 1
    assert (difference > 0).mean() <= 0.001
    again = decode_packet(encode_packet(packet))
    assert torch.equal(to_bytes(compose_packets([again])), to_bytes(compose_packets([packet])))
    assert data[4] != FORMAT_VERSION or encode_packet(packet) == data


def test_there_are_golden_packets():
    assert len(list(GOLDEN.glob("*.rinr"))) >= 2


@pytest.mark.parametrize(
    "background",
    [
        Pyramid(b"abcd", 12.5, b"coded"),
        image_file(np.full((48, 64, 3), 9, np.uint8), "webp", 50),
        Reference(bytes(range(32))),
        Reference(
            bytes(32),
            (1.0, 0.0, 2.5, 0.0, 1.0, -3.0, 0.0, 0.0),
            (Update((0, 8, 64, 48), Pyramid(b"abcd", 3.0, b"")),),
        ),
    ],
)
def test_every_kind_of_content_survives_the_bytes(background):
    patches = (
        ObjectPatch(0, 1.0, Pyramid(b"abcd", 4.0, b"x" * 300)),
        ObjectPatch(1, 1.0, AVIF),
    )
    packet = replace(random_packet(1), background=background, objects=patches)
    again = decode_packet(encode_packet(packet))
    assert again.background == background
    assert [(o.box, o.residual_scale, o.content) for o in again.objects] == [
        (o.box, o.residual_scale, o.content) for o in patches
    ]
    assert again.keyframe == (background.packet if isinstance(background, Reference) else None)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"background": Reference(b"short")}, "32 bytes, not 5"),
        ({"background": Reference(bytes(32), (1.0,) * 7)}, "8 entries, not 7"),
        ({"background": Reference(bytes(32), (float("nan"),) * 8)}, "finite"),
        (
            {"background": Reference(bytes(32), None, (Update((0, 0, 65, 9), Pyramid(b"abcd", 1.0, b"")),))},
            "no region",
        ),
        ({"background": Pyramid(b"abcd", 0.0, b"")}, "step is 0.0, below 0.0009765625 grey levels"),
        ({"background": Pyramid(b"abcd", 2.0**-11, b"")}, "step is 0.00048828125, below"),
        ({"background": Pyramid(b"abcd", 3e38, b"")}, "step is .*, not a finite number from 0 to 1048576"),
        (
            {"objects": (ObjectPatch(0, 1.0, AVIF),)},
            "must be networks, too",
        ),
    ],
)
def test_contents_out_of_bounds_are_not_written(change, what):
    with pytest.raises(PacketFormatError, match=what):
        encode_packet(replace(random_packet(1), **change))


@pytest.mark.parametrize("step", [2.0**-10, 2.0**20])
def test_a_pyramids_extreme_steps_survive_the_bytes(step):
    packet = replace(random_packet(0), background=Pyramid(b"abcd", step, b"coded"), objects=())
    assert decode_packet(encode_packet(packet)).background == packet.background


@pytest.mark.parametrize("real", [1.1e6, 3e38, float("inf"), float("nan")])
def test_a_residuals_scale_has_a_bound(real):
    packet = random_packet(0, boxes=1)
    patch = replace(packet.objects[0], residual_scale=real)
    with pytest.raises(PacketFormatError, match=r"scale is .*, not a finite number from 0 to 1048576"):
        decode_packet(encode_packet(replace(packet, objects=(patch,))))


def test_labels_keep_the_pixel_region():
    for box in (Box(9.99, 3.01, 20.01, 7.99), Box(-5, -2.5, 3.2, 100), Box(0.03, 0.03, 0.04, 0.04)):
        kept = label_box(box, 64, 48)
        assert kept.region(64, 48) == box.region(64, 48)
        assert decode_packet(encode_packet(replace(random_packet(0, boxes=0), boxes=(kept,)))).boxes == (
            kept,
        )
    assert label_box(Box(64, 0, 70, 5), 64, 48) is None


def test_a_packet_from_the_future_is_refused_in_one_sentence():
    data = bytearray(encode_packet(random_packet()))
    data[4] = 9
    with pytest.raises(PacketVersionError, match=r"version 9, this program reads up to 2; update"):
        decode_packet(resealed(data))


def test_damage_is_found_by_the_checksum():
    data = bytearray(encode_packet(random_packet()))
    data[len(data) // 2] ^= 0x10
    with pytest.raises(PacketChecksumError):
        decode_packet(bytes(data))


@pytest.mark.parametrize("length", [0, 1, 9, 13, 60, 200])
def test_truncation_is_refused(length):
    with pytest.raises(PacketFormatError):
        decode_packet(encode_packet(random_packet())[:length])


def test_truncation_with_a_right_checksum_is_refused():
    data = encode_packet(random_packet())
    for length in range(14, len(data), 7):
        with pytest.raises(PacketFormatError):
            decode_packet(resealed(data[:length]))


def test_bytes_after_the_end_are_refused():
    data = encode_packet(random_packet())
    with pytest.raises(PacketFormatError, match="follow the end"):
        decode_packet(resealed(data[:-4] + b"xxxx" + data[-4:]))


def test_too_large_a_packet_is_refused_before_it_is_read():
    with pytest.raises(PacketFormatError, match="above the limit"):
        decode_packet(b"RINR" + bytes(MAX_PACKET_BYTES))


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"width": 5000}, "outside 1..4095"),
        ({"boxes": (Box(0, 0, 65, 5),), "objects": ()}, "reaches over"),
        ({"boxes": (Box(0.01, 0, 5, 5),), "objects": ()}, "steps of 1/16"),
        ({"source_digest": b"short"}, "32 bytes, not 5"),
        ({"profile": ""}, "empty"),
    ],
)
def test_what_the_format_cannot_hold_is_not_written(change, what):
    with pytest.raises(PacketError, match=what):
        encode_packet(replace(random_packet(), **change))


def test_not_a_number_is_refused():
    packet = random_packet(boxes=1)
    (item,) = packet.objects
    with pytest.raises(PacketFormatError, match="finite"):
        encode_packet(replace(packet, objects=(replace(item, residual_scale=float("nan")),)))
    with pytest.raises(PacketFormatError):
        encode_packet(replace(packet, background=random_network(np.random.default_rng(0), w0=float("inf"))))


BASE = [encode_packet(random_packet(seed, boxes=seed)) for seed in range(3)]


@settings(max_examples=3000, deadline=None)
@given(
    base=st.sampled_from(BASE),
    edits=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=6),
    cut=st.one_of(st.none(), st.integers(0, 10**6)),
    seal=st.booleans(),
)
def test_mutated_packets_raise_only_typed_errors(base, edits, cut, seal):
    data = bytearray(base)
    for at, value in edits:
        # Most of a packet is weights, where any value is legal: aim half of the edits at its fields.
        data[at % (len(data) if at % 2 else 140)] = value
    if cut is not None:
        del data[14 + cut % (len(data) - 14) :]
    refusal = None
    try:
        packet = decode_packet(resealed(data) if seal and len(data) > 14 else bytes(data))
    except PacketError as error:
        refusal = str(error)
    if refusal is None:
        assert decode_packet(encode_packet(packet)).boxes == packet.boxes
    else:
        assert len(refusal.splitlines()) == 1


def test_a_hostile_header_allocates_little():
    data = bytearray(encode_packet(random_packet(boxes=2)))
    tracemalloc.start()
    try:
        for at in range(10, 140):
            for value in (0x7F, 0xFF):
                hostile = bytearray(data)
                hostile[at] = value
                try:
                    decode_packet(resealed(hostile))
                except PacketError:
                    continue
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 20 * len(data) + 200_000
