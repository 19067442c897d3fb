import subprocess
import sys

import numpy as np
import pytest

from common.datasets import open_source
from common.errors import DatasetError, ImageError
from common.images import ImageLimits, decode_image, encode_jpeg, encode_png


def test_folder_of_images_is_unlabelled(frames, photo):
    folder = frames("shots", "b2.jpg", "b10.JPG", ".hidden.jpg", "notes.txt")
    frames("shots", "a.png", data=encode_png(photo))
    source = open_source(folder)
    assert source.format == "folder"
    assert source.class_names == ()
    assert [(frame.name, frame.labelled) for frame in source] == [("a", False), ("b2", False), ("b10", False)]


def test_images_in_img_without_labels(frames):
    assert [frame.name for frame in open_source(frames("seq/img", "1.jpg").parent)] == ["1"]


def test_greyscale_image_is_normal(frames, photo):
    import cv2

    _, data = cv2.imencode(".jpg", photo[..., 0])
    (frame,) = open_source(frames("shots", "grey.jpg", data=data.tobytes()))
    assert (frame.width, frame.height) == (96, 72)


def test_video_frames_become_numbered_jpegs(clip):
    source = open_source(clip)
    assert source.format == "video"
    assert len(source) == 5
    read = list(source)
    assert [frame.name for frame in read] == [f"{n:06d}" for n in range(5)]
    assert not any(frame.labelled for frame in read)
    pictures = [decode_image(frame.image) for frame in read]
    assert all(picture.shape == (72, 96, 3) for picture in pictures)
    means = [picture.mean() for picture in pictures]
    assert np.diff(means) == pytest.approx([20] * 4, abs=2)


def test_video_colours_are_rgb(tmp_path):
    import cv2

    path = tmp_path / "red.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (32, 32))
    writer.write(np.full((32, 32, 3), (0, 0, 255), np.uint8))
    writer.release()
    (frame,) = open_source(path)
    assert decode_image(frame.image)[16, 16] == pytest.approx([254, 0, 0], abs=4)


def test_video_stops_at_max_frames_and_can_be_read_again(clip):
    source = open_source(clip, max_frames=2)
    assert len(source) == 2
    assert [f.digest for f in source] == [f.digest for f in source]
    assert len(list(source)) == 2


def test_video_frames_beyond_the_limit_are_refused(clip):
    with pytest.raises(ImageError, match="96x72"):
        list(open_source(clip, limits=ImageLimits(max_pixels=1000)))


def test_what_is_no_video_is_refused(tmp_path):
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"no video" * 100)
    with pytest.raises(DatasetError, match="no video that can be opened"):
        open_source(path)


def test_refusing_a_video_leaves_stderr_alone(tmp_path):
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"no video" * 100)
    code = (
        "import sys; from common.datasets import open_source; from common.errors import DatasetError\n"
        "try: open_source(sys.argv[1])\nexcept DatasetError: print('refused')"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, check=True, text=True)
    assert (done.stdout, done.stderr) == ("refused\n", "")


@pytest.mark.parametrize("share", [0.3, 0.7])
def test_unreadable_image_stops_or_is_counted(frames, photo, share):
    folder = frames("shots", "1.jpg", "3.jpg")
    data = encode_jpeg(photo)
    frames("shots", "2.jpg", data=data[: int(len(data) * share)])
    with pytest.raises(ImageError, match=r"2\.jpg: the JPEG .* truncated"):
        list(open_source(folder))
    told = []
    source = open_source(folder, skip_unreadable=True, on_skip=told.append)
    for _ in range(2):
        assert [(frame.name, source.place) for frame in source] == [("1", 0), ("3", 2)]
        assert source.skipped == {"unreadable images": 1}
    assert len(told) == 2
    assert "2.jpg" in told[0]


def test_place_of_a_video_frame_is_its_number(clip):
    source = open_source(clip)
    assert [source.place for _ in source] == [0, 1, 2, 3, 4]


def test_image_beyond_the_byte_limit_is_refused(frames, jpeg):
    with pytest.raises(ImageError, match=r"1\.jpg: .* limit"):
        list(open_source(frames("shots", "1.jpg"), limits=ImageLimits(max_bytes=len(jpeg) - 1)))


def test_directory_named_like_an_image_is_one_clear_error(frames):
    folder = frames("shots", "1.jpg")
    (folder / "2.jpg").mkdir()
    with pytest.raises(ImageError, match=r"cannot read the frame .*2\.jpg"):
        list(open_source(folder))
