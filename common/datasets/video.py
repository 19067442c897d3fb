"""Video files, without boxes: each frame is decoded and becomes a JPEG."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from common.datasets.source import FrameSource, ReadOptions
from common.errors import DatasetError, ImageError
from common.frame import Frame
from common.images import encode_jpeg

__all__ = ["VIDEO_JPEG_QUALITY", "VIDEO_SUFFIXES", "VideoSource", "matches", "open_video"]

VIDEO_SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".webm"})
"""File name endings, in lower case, by which a video is found."""

VIDEO_JPEG_QUALITY = 95
"""libjpeg quality of a video frame: high enough that the video's own loss prevails."""


class VideoSource(FrameSource):
    """Frames of a video, named by their six-digit number from 000000."""

    @property
    def length(self) -> int | None:
        """Frames that the container states, which may be wrong; None when it states none."""
        capture = self._open()
        try:
            stated = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        finally:
            capture.release()
        if stated < 1:
            return None
        return stated if self.options.max_frames is None else min(stated, self.options.max_frames)

    def _source_names(self) -> Sequence[str]:
        return ()

    def _open(self) -> cv2.VideoCapture:
        # FFmpeg would write its own complaint to stderr beside the sentence of our error.
        os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
        capture = cv2.VideoCapture(str(self.path))
        if not capture.isOpened():
            capture.release()
            raise DatasetError(f"{self.path} is no video that can be opened; convert it to H.264 in MP4")
        return capture

    def __iter__(self) -> Iterator[Frame]:
        self.skipped.clear()
        capture = self._open()
        index = 0
        try:
            while self.options.max_frames is None or index < self.options.max_frames:
                ok, picture = capture.read()
                if not ok:
                    break
                height, width = picture.shape[:2]
                if width * height > self.options.limits.max_pixels:
                    raise ImageError(
                        f"{self.path} has frames of {width}x{height} pixels, more than the limit of "
                        f"{self.options.limits.max_pixels:,}; scale it down or raise the limit"
                    )
                self.place = index
                rgb = np.ascontiguousarray(picture[..., ::-1], dtype=np.uint8)
                yield Frame(
                    name=f"{index:06d}",
                    image=encode_jpeg(rgb, VIDEO_JPEG_QUALITY),
                    width=width,
                    height=height,
                    validation=self._validation(index),
                )
                index += 1
        finally:
            capture.release()
        if index == 0:
            raise DatasetError(
                f"no frame of the video {self.path} can be decoded; convert it to H.264 in MP4"
            )


def matches(path: Path) -> bool:
    """Whether ``path`` is named like a video file."""
    return path.is_file() and path.suffix.lower() in VIDEO_SUFFIXES


def open_video(path: Path, options: ReadOptions) -> VideoSource:
    """Read a video.

    Raises:
        DatasetError: It cannot be opened.
    """
    if not path.is_file():
        raise DatasetError(f"{path} is no video file")
    source = VideoSource(path, "video", options)
    _ = source.length
    return source
