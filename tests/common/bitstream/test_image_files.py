"""Classic image files in packets: nothing but the picture travels, and nothing hostile reaches a decoder."""

import io
import struct

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from common.bitstream import ImageFile
from common.bitstream.bare_images import bare_image, bare_image_size, image_from_bare
from common.bitstream.image_files import CODECS, image_file, image_pixels, image_size
from common.bitstream.image_payload import decode_image, encode_image
from common.errors import PacketFormatError
from common.quality import psnr
from tests.conftest import make_photo

SIZES = [(1, 1), (2, 3), (17, 15), (33, 64), (96, 72)]


def pillow_pixels(data):
    with Image.open(io.BytesIO(data)) as image:
        return np.array(image.convert("RGB"))


def pillow_file(rgb, codec, **options):
    target = io.BytesIO()
    Image.fromarray(rgb).save(target, codec, **options)
    return target.getvalue()


@pytest.mark.parametrize("codec", CODECS)
@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("quality", [1, 49, 50, 100])
def test_a_file_survives_its_payload_and_gives_the_pixels_of_the_whole_file(codec, width, height, quality):
    rgb = make_photo(96, 72)[:height, :width]
    file = image_file(rgb, codec, quality)
    payload = encode_image(file)
    assert decode_image(payload) == file
    assert image_size(file) == (width, height)
    pixels = image_pixels(file, height, width)
    np.testing.assert_array_equal(pixels, pillow_pixels(file.data))
    assert pixels.flags.writeable
    assert len(payload) < len(file.data) - 15


@pytest.mark.parametrize("codec", ["jpeg", "avif"])
def test_colour_at_full_size_survives(codec):
    rgb = make_photo(40, 30)
    half, full = (image_file(rgb, codec, 100, full_colour=colour) for colour in (False, True))
    assert decode_image(encode_image(full)) == full
    np.testing.assert_array_equal(image_pixels(full, 30, 40), pillow_pixels(full.data))
    assert psnr(image_pixels(full, 30, 40), rgb) > psnr(image_pixels(half, 30, 40), rgb) + 5


def test_webp_has_colour_at_half_size_only():
    with pytest.raises(PacketFormatError, match="cannot keep colour"):
        image_file(make_photo(40, 30), "webp", 50, full_colour=True)


def test_what_a_packet_saves_of_each_container():
    rgb = make_photo(96, 72)
    saved = {}
    for codec in CODECS:
        file = image_file(rgb, codec, 50)
        saved[codec] = len(file.data) - len(encode_image(file))
    assert saved == {"jpeg": 207, "webp": pytest.approx(19, abs=1), "avif": 274}


@pytest.mark.parametrize("codec", CODECS)
def test_a_file_of_another_size_is_refused_before_it_is_decoded(codec, monkeypatch):
    file = image_file(make_photo(40, 30), codec, 50)
    monkeypatch.setattr(Image, "open", lambda *a, **k: pytest.fail("the file was opened"))
    with pytest.raises(PacketFormatError, match=r"region of 30x40 pixels holds a \w+ file of 40x30"):
        image_pixels(file, 40, 30)


def without_reduced_header(bare):
    return bytes([bare[0], bare[1], bare[2] & ~8, *bare[3:]])


def with_second_sequence_header(bare):
    length = bare[1]
    return bare[: 2 + length] + bare


HOSTILE = [
    ("avif", lambda b: b"", "not one sequence header and one frame"),
    ("avif", lambda b: b[: b[1] + 2], "not one sequence header and one frame"),
    ("avif", lambda b: b[:-1], "truncated"),
    ("avif", lambda b: b[:1], "truncated"),
    ("avif", lambda b: b"\x0a\xff\xff\xff\xff" + b[2:], "above 256 MB"),
    ("avif", without_reduced_header, "reduced header"),
    ("avif", with_second_sequence_header, "not one sequence header and one frame"),
    ("avif", lambda b: b + b[2 + b[1] :], "not one sequence header and one frame"),
    ("avif", lambda b: bytes([8]) + b[1:], "without its size"),
    ("webp", lambda b: b[:5], "no VP8 key frame"),
    ("webp", lambda b: b[:6], "truncated"),
    ("webp", lambda b: bytes([b[0] | 1]) + b[1:], "no VP8 key frame"),
    ("webp", lambda b: b[:6] + bytes(4) + b[10:], "0x0 pixels"),
    ("jpeg", lambda b: b[:3], "truncated"),
    ("jpeg", lambda b: b[:10], "truncated"),
    ("jpeg", lambda b: b"\0" + b[1:], "quality 0"),
    ("jpeg", lambda b: b"\x80" + b[1:], "quality 0"),
    ("jpeg", lambda b: b"\xff" + b[1:], "quality 127"),
    ("jpeg", lambda b: b[:1] + bytes(4) + b[5:], "0x0 pixels"),
    ("jpeg", lambda b: b[:5] + b"\xff" * 16 + b[21:], "truncated"),
    ("jpeg", lambda b: b + b"\xff\xc0\0\x11\x08\xff\xff\xff\xff", "marker inside"),
]


@pytest.mark.parametrize(("codec", "change", "what"), HOSTILE)
def test_bytes_that_are_no_picture_are_refused(codec, change, what):
    bare = change(bare_image(codec, image_file(make_photo(40, 30), codec, 50).data))
    with pytest.raises(PacketFormatError, match=what):
        decode_image(bytes([CODECS.index(codec)]) + bare)


def test_an_unknown_codec_is_refused():
    with pytest.raises(PacketFormatError, match="unknown codec 3"):
        decode_image(b"\x03abc")
    with pytest.raises(PacketFormatError, match="early"):
        decode_image(b"")


def test_huge_sizes_are_read_and_not_decoded():
    bare = bare_image("webp", image_file(make_photo(40, 30), "webp", 50).data)
    huge = bare[:6] + struct.pack("<HH", 0x3FFF, 0x3FFF) + bare[10:]
    assert bare_image_size("webp", huge) == (16383, 16383)
    with pytest.raises(PacketFormatError, match="holds a webp file of 16383x16383"):
        image_pixels(ImageFile("webp", image_from_bare("webp", huge)), 30, 40)


@pytest.mark.parametrize(
    ("codec", "options"),
    [
        ("jpeg", {"progressive": True}),
        ("jpeg", {"subsampling": "4:2:2"}),
        ("jpeg", {"qtables": "web_high"}),
        ("webp", {"lossless": True}),
        ("webp", {"exif": b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0"}),
        ("avif", {"subsampling": "4:2:2"}),
        ("avif", {"subsampling": "4:0:0"}),
    ],
)
def test_files_with_other_features_are_not_written(codec, options):
    data = pillow_file(make_photo(40, 30), codec, quality=50, **options)
    with pytest.raises(PacketFormatError):
        encode_image(ImageFile(codec, data))


@pytest.mark.parametrize("codec", CODECS)
def test_a_file_as_pillow_writes_it_must_be_brought_to_the_one_shape(codec):
    data = pillow_file(
        make_photo(40, 30), codec, quality=50, **({"optimize": True} if codec == "jpeg" else {})
    )
    again = image_from_bare(codec, bare_image(codec, data))
    np.testing.assert_array_equal(pillow_pixels(again), pillow_pixels(data))
    assert decode_image(encode_image(ImageFile(codec, again))).data == again


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(CODECS),
    st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=6),
    st.integers(0, 40),
)
def test_damaged_payloads_give_pixels_of_the_right_size_or_a_typed_error(codec, changes, cut):
    payload = bytearray(encode_image(image_file(make_photo(40, 30), codec, 40)))
    for place, value in changes:
        payload[place % len(payload)] = value
    try:
        file = decode_image(bytes(payload[: len(payload) - cut]))
        assert encode_image(file)[1:] == bytes(payload[1 : len(payload) - cut])
        pixels = image_pixels(file, 30, 40)
    except PacketFormatError:
        return
    assert pixels.shape == (30, 40, 3)
