"""Small made sources, one of each layout."""

from pathlib import Path

import cv2
import pytest

from common.images import encode_jpeg


@pytest.fixture(scope="session")
def jpeg(photo):
    """The bytes of a 96x72 JPEG."""
    return encode_jpeg(photo, 80)


@pytest.fixture
def frames(tmp_path, jpeg):
    """Write JPEG frames of these names into a folder of tmp_path and return the folder."""

    def write(folder, *names, data=jpeg) -> Path:
        place = tmp_path / folder
        place.mkdir(parents=True, exist_ok=True)
        for name in names:
            (place / name).write_bytes(data)
        return place

    return write


@pytest.fixture
def text(tmp_path):
    """Write a text file below tmp_path and return its path."""

    def write(name, content) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
        return path

    return write


@pytest.fixture
def clip(tmp_path, photo):
    """A video of five 96x72 frames, each brighter than the one before."""
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (96, 72))
    for number in range(5):
        writer.write((photo[..., ::-1] // 2 + 20 * number).astype("uint8"))
    writer.release()
    return path


@pytest.fixture
def boxes_of():
    """Boxes of a frame as plain tuples."""

    def plain(frame):
        return [(box.x0, box.y0, box.x1, box.y1, box.name) for box in frame.boxes]

    return plain
