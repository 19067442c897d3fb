import contextlib
import io
import resource
import struct
import subprocess
import sys
import time
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from common.errors import ImageError
from common.images import (
    ImageLimits,
    decode_image,
    encode_jpeg,
    encode_png,
    image_header,
    scale_to_width,
    scaled_size,
)


def saved(rgb, kind, **options):
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, kind, **options)
    return buffer.getvalue()


def oriented(rgb, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved(rgb, "JPEG", quality=95, exif=exif)


def jpeg_of_size(width, height):
    """A JPEG whose header states a size, without the picture to it."""
    rgb = np.zeros((8, 8, 3), np.uint8)
    data = bytearray(encode_jpeg(rgb))
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", height, width)
    return bytes(data)


def png_of_size(width, height):
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [header, b"IDAT" + zlib.compress(b"\0"), b"IEND"]
    body = b"".join(struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks)
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "WEBP"])
def test_header_tells_format_and_size(photo, kind):
    header = image_header(saved(photo, kind))
    assert (header.format, header.width, header.height) == (kind, 96, 72)


@pytest.mark.parametrize("kind", ["PNG", "BMP"])
def test_lossless_images_decode_exactly(photo, kind):
    assert np.array_equal(decode_image(saved(photo, kind)), photo)


def test_png_round_trip(photo):
    assert np.array_equal(decode_image(encode_png(photo)), photo)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 4}])
def test_jpeg_decodes_as_opencv_does(photo, options):
    data = saved(photo, "JPEG", quality=80, **options)
    expected = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    assert np.array_equal(decode_image(data), expected)


def test_jpeg_quality_orders_size(photo):
    assert len(encode_jpeg(photo, 30)) < len(encode_jpeg(photo, 95))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_applied_to_size_and_pixels(photo, orientation):
    data = oriented(photo, orientation)
    header = image_header(data)
    decoded = decode_image(data)
    assert decoded.shape == (header.height, header.width, 3)
    assert (header.width, header.height) == ((72, 96) if orientation >= 5 else (96, 72))
    expected = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    assert np.array_equal(decoded, expected)


def test_greyscale_becomes_three_equal_channels(photo):
    decoded = decode_image(saved(np.ascontiguousarray(photo[..., 0]), "JPEG"))
    assert decoded.shape == (72, 96, 3)
    assert np.array_equal(decoded[..., 0], decoded[..., 2])


def test_alpha_is_dropped(photo):
    rgba = np.dstack([photo, np.zeros((72, 96), np.uint8)])
    assert np.array_equal(decode_image(saved(rgba, "PNG")), photo)


@pytest.mark.parametrize(
    "data", [b"", b"\xff", b"\xff\xd8", b"hello", b"\0" * 1000, b"\x89PNG\r\n\x1a\n", b"GIF89a"]
)
def test_what_is_no_image_is_refused(data):
    with pytest.raises(ImageError):
        image_header(data)


@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.99])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP"])
def test_truncated_image_is_refused(photo, kind, share):
    data = saved(photo, kind)
    with pytest.raises(ImageError):
        decode_image(data[: int(len(data) * share)])


def test_truncated_jpeg_is_refused_from_its_header_alone(photo):
    with pytest.raises(ImageError, match="truncated"):
        image_header(encode_jpeg(photo)[:-2])


@pytest.mark.parametrize("missing", [3, 20, 500])
@pytest.mark.parametrize("progressive", [False, True])
def test_jpeg_with_missing_data_before_its_end_marker_is_refused(photo, missing, progressive):
    data = saved(photo, "JPEG", quality=95, progressive=progressive)
    with pytest.raises(ImageError):
        decode_image(data[: -2 - missing] + b"\xff\xd9")


def test_refusing_damage_leaves_stderr_alone(photo, capfd):
    with pytest.raises(ImageError):
        decode_image(encode_jpeg(photo)[:-40] + b"\xff\xd9")
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("tail", [b"\0" * 50, b"\xff\xff", b"\r\n", b"trailing text", b"\xff\xd9"])
def test_bytes_after_the_end_marker_are_tolerated(photo, tail):
    data = encode_jpeg(photo)
    assert np.array_equal(decode_image(data + tail), decode_image(data))


def test_thumbnail_in_exif_is_not_taken_for_the_picture(photo):
    thumbnail = encode_jpeg(np.ascontiguousarray(photo[:16, :16]))
    data = encode_jpeg(photo)
    segment = b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail
    with_thumbnail = data[:2] + segment + data[2:]
    assert image_header(with_thumbnail).width == 96
    with pytest.raises(ImageError):
        image_header(with_thumbnail[: len(segment) + 300])


@pytest.mark.parametrize("data", [jpeg_of_size(40_000, 40_000), png_of_size(40_000, 40_000)])
def test_huge_header_is_refused_before_allocation(data):
    with pytest.raises(ImageError, match="limit of 64,000,000"):
        decode_image(data)


def test_header_with_no_pixels_is_refused():
    with pytest.raises(ImageError):
        image_header(jpeg_of_size(0, 8))


def test_limits_can_be_set(photo):
    data = encode_jpeg(photo)
    with pytest.raises(ImageError, match="96x72"):
        image_header(data, ImageLimits(max_pixels=96 * 72 - 1))
    with pytest.raises(ImageError, match="bytes"):
        image_header(data, ImageLimits(max_bytes=len(data) - 1))
    assert image_header(data, ImageLimits(max_pixels=96 * 72, max_bytes=len(data))).width == 96


@settings(max_examples=150, deadline=None)
@given(
    places=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=8), data=st.data()
)
def test_damaged_bytes_give_pixels_or_a_typed_error(places, data):
    rgb = np.arange(16 * 16 * 3, dtype=np.uint8).reshape(16, 16, 3)
    kind = data.draw(st.sampled_from(["JPEG", "PNG", "BMP", "WEBP"]))
    damaged = bytearray(saved(rgb, kind))
    for place, value in places:
        damaged[int(place * (len(damaged) - 1))] = value
    try:
        header = image_header(bytes(damaged), ImageLimits(max_pixels=1_000_000))
        pixels = decode_image(bytes(damaged), ImageLimits(max_pixels=1_000_000))
    except ImageError:
        return
    assert pixels.shape == (header.height, header.width, 3)


def test_scaling_uses_the_area_filter_and_rounds_the_height():
    rgb = np.zeros((52, 104, 3), np.uint8)
    rgb[:, ::4] = 200
    scaled, scale = scale_to_width(rgb, 26)
    assert scaled.shape == (13, 26, 3)
    assert scale == 0.25
    assert (scaled == 50).all()
    assert scale_to_width(np.zeros((540, 1024, 3), np.uint8), 640)[0].shape == (338, 640, 3)
    assert scaled_size(1024, 540, 640) == (640, 338, 0.625)


def test_scaling_to_the_same_width_is_no_copy(photo):
    scaled, scale = scale_to_width(photo, 96)
    assert scaled is photo
    assert scale == 1


def test_a_flat_image_keeps_at_least_one_row():
    assert scale_to_width(np.zeros((1, 1000, 3), np.uint8), 10)[0].shape == (1, 10, 3)


def test_scaling_to_nothing_is_refused(photo):
    with pytest.raises(ImageError):
        scale_to_width(photo, 0)


@pytest.mark.parametrize("shape", [(4, 4), (4, 4, 4), (0, 4, 3)])
def test_only_rgb_arrays_are_encoded(shape):
    with pytest.raises(ImageError):
        encode_png(np.zeros(shape, np.uint8))


def test_quality_out_of_range_is_refused(photo):
    with pytest.raises(ImageError):
        encode_jpeg(photo, 0)


# What costs time rather than memory


def seconds(work):
    since = time.perf_counter()
    work()
    return time.perf_counter() - since


def refused_quickly(data, sentence):
    def attempt():
        with pytest.raises(ImageError, match=sentence):
            image_header(data, ImageLimits(max_bytes=64_000_000))
        with pytest.raises(ImageError, match=sentence):
            decode_image(data, ImageLimits(max_bytes=64_000_000))

    assert seconds(attempt) < 1.0


def test_a_jpeg_of_very_many_scans_is_refused_before_it_is_decoded(photo):
    file = io.BytesIO()
    Image.fromarray(photo).save(file, "JPEG", progressive=True)
    data = file.getvalue()
    last = data[data.rindex(b"\xff\xda") : -2]
    assert decode_image(data).shape == photo.shape, "a progressive JPEG as cameras write it"
    refused_quickly(data[:-2] + last * 500 + b"\xff\xd9", "more than 64 scans")


def test_a_jpeg_of_millions_of_segments_is_refused_at_once(photo):
    data = encode_jpeg(photo)
    refused_quickly(data[:2] + b"\xff\xfe\x00\x02" * 4_000_000 + data[2:], "marker segments")


@pytest.mark.parametrize("tail", [b"\x00", b"\xd0", b""])
def test_a_scan_of_millions_of_fill_bytes_is_walked_once(photo, tail):
    data = encode_jpeg(photo)
    start = data.index(b"\xff\xda") + 14

    def attempt():
        with contextlib.suppress(ImageError):
            image_header(data[:start] + b"\xff" * 8_000_000 + tail + data[start:])

    assert seconds(attempt) < 1.0


def test_a_jpeg_with_a_large_colour_profile_is_taken(photo):
    file = io.BytesIO()
    Image.fromarray(photo).save(file, "JPEG", icc_profile=bytes(3_000_000))
    assert decode_image(file.getvalue()).shape == photo.shape


@pytest.mark.parametrize("kind", [b"tEXt", b"IDAT"])
def test_a_png_of_very_many_chunks_is_refused_at_once(photo, kind):
    data = encode_png(photo)
    chunk = struct.pack(">I", 0) + kind + struct.pack(">I", zlib.crc32(kind))
    refused_quickly(data[:33] + chunk * 1_000_000 + data[33:], "far more chunks")


def test_a_png_whose_text_unpacks_to_gigabytes_stays_small(photo):
    data = encode_png(photo)
    body = b"zTXt" + b"k\0\0" + zlib.compress(bytes(200_000_000), 9)
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for work in (image_header, decode_image):
        with contextlib.suppress(ImageError):
            work(data[:33] + chunk + data[33:])
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000, "kilobytes"


def test_pixels_of_16_bit_become_8(photo):
    wide = Image.fromarray(photo[..., 0].astype(np.uint16) * 257)
    file = io.BytesIO()
    wide.save(file, "PNG")
    assert (decode_image(file.getvalue())[..., 0] == photo[..., 0]).all()


def test_cmyk_is_decoded_as_opencv_does(photo):
    file = io.BytesIO()
    Image.fromarray(photo).convert("CMYK").save(file, "JPEG", quality=95)
    difference = decode_image(file.getvalue()).astype(int) - photo
    assert abs(difference).mean() < 12


def test_a_good_picture_is_known_even_where_no_further_file_can_be_opened(tmp_path, photo):
    path = tmp_path / "photo.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    path.write_bytes(saved(photo, "JPEG", exif=exif))
    # In a process of its own: a reader that is imported at the first picture would be imported here already.
    program = (
        "import pathlib, resource, sys\n"
        "from common.images import image_header\n"
        "data = pathlib.Path(sys.argv[1]).read_bytes()\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))\n"
        "print(image_header(data).orientation)\n"
    )
    ended = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True)
    assert ended.stdout == "6\n", ended.stderr


@pytest.mark.parametrize(
    ("padding", "allowed"),
    [
        (b"\xff" * 60_000, True),
        (b"\xff" * 16_000_000, False),
        (
            (b"\xff\xed\xff\xff" + b"Photoshop 3.0\0" + b"8BIM\x04\x04\0\0\0\0\0\0" * 5459 + bytes(11)) * 20,
            True,
        ),
        (
            (b"\xff\xed\xff\xff" + b"Photoshop 3.0\0" + b"8BIM\x04\x04\0\0\0\0\0\0" * 5459 + bytes(11)) * 200,
            False,
        ),
    ],
    ids=["some fill", "fill without end", "some notes", "notes without end"],
)
def test_padding_and_notes_of_a_jpeg_cost_no_time(photo, padding, allowed):
    """A fog looks at headers in the thread that serves every edge."""
    jpeg = encode_jpeg(photo, 90)
    padded = jpeg[:2] + padding + jpeg[2:]
    begun = time.process_time()
    if allowed:
        assert image_header(padded).width == photo.shape[1]
    else:
        with pytest.raises(ImageError, match="far more padding or notes"):
            image_header(padded)
    assert time.process_time() - begun < 0.5
