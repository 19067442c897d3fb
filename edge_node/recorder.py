"""The recorder thread: frames of the sources into the durable outbox, resumable after kill -9."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from common.datasets import open_source
from common.errors import DatasetError, ImageError, ResidualInrError, StoreFullError, WireError, reason
from common.frame import Frame, FrameIdentity, in_validation_block
from common.images import ImageLimits, decode_image, encode_jpeg, image_header
from common.node.settings import resolve
from common.store.contract import EdgeStore
from common.store.corrections import Correction
from common.wire.framing import encode
from common.wire.messages import Correct, Message, Upload
from edge_node.labeller import Labeller
from edge_node.labelling import HELD_OUT, Verdict
from edge_node.settings import EdgeSettings, SourceSettings

__all__ = ["Recorder", "RecorderStatus", "uploadable"]

FULL_RETRY_S = 0.5
"""Seconds between two looks at a full outbox."""

LONGEST_IDENTITY = FrameIdentity("", 2**64 - 1, 2**64 - 1)
"""An identity that takes as much of a message as any."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RecorderStatus:
    """What the recorder does.

    Attributes:
        state: waiting, recording, full, watching (for new frames and labels), done or stopped.
        source: Path of the present source; empty when done.
        recorded: Frames given to the outbox by this process.
        corrected: Frames of earlier looks whose labels this process found corrected.
        skipped: Frames left out because their image or label cannot be read or uploaded.
        problems: One sentence for each source that could not be recorded to its end.
    """

    state: str = "waiting"
    source: str = ""
    recorded: int = 0
    corrected: int = 0
    skipped: int = 0
    problems: tuple[str, ...] = ()


class Recorder:
    """Records the sources in order, each once, in a thread of its own.

    A frame's key in the outbox is its source and its place there, so frames recorded before a crash are
    passed over, but for labels that have changed since: these are sent as a correction. Labels that are no
    longer there correct nothing. A frame that cannot be read or uploaded is left out, and tried again at the
    next look.

    Args:
        settings: The edge's settings.
        base: Folder that relative paths of sources start from.
        store: The edge's store.
        on_recorded: Called from the thread after each new frame is on disk.
        on_corrected: Called from the thread after corrected labels of an earlier frame are on disk.
        labeller: Gives boxes to frames of sources with ``labels: detector``; None leaves them unlabelled.
    """

    def __init__(
        self,
        settings: EdgeSettings,
        *,
        base: Path,
        store: EdgeStore,
        on_recorded: Callable[[], None],
        on_corrected: Callable[[], None] = lambda: None,
        labeller: Labeller | None = None,
    ) -> None:
        self._settings = settings
        self._base = base
        self._store = store
        self._on_recorded = on_recorded
        self._on_corrected = on_corrected
        self._labeller = labeller
        self._stop = threading.Event()
        self._detector = threading.Event()
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
        self.status = RecorderStatus()

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def detector_deployed(self) -> None:
        """A detector is in use: sources that waited for one begin."""
        self._detector.set()

    def stop(self, timeout: float) -> bool:
        """End after the present frame; whether the thread has ended within ``timeout`` seconds."""
        self._stop.set()
        self._detector.set()
        if self._labeller is not None:
            self._labeller.close()
        if self._thread.is_alive():
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        for source in self._settings.sources:
            if source.wait_for_detector and not self._detector.is_set():
                self.status = replace(self.status, state="waiting", source=source.path)
                self._detector.wait()
            if self._stop.is_set():
                break
            self._look(source)
        due = {
            source: time.monotonic() + source.again_s for source in self._settings.sources if source.again_s
        }
        while due and not self._stop.is_set():
            source = min(due, key=lambda one: due[one])
            self.status = replace(self.status, state="watching", source="")
            if not self._stop.wait(max(0.0, due[source] - time.monotonic())):
                self._look(source)
                due[source] = time.monotonic() + (source.again_s or 0.0)
        state = "stopped" if self._stop.is_set() else "done"
        self.status = replace(self.status, state=state, source="")

    def _look(self, source: SourceSettings) -> None:
        """One pass over a source; a problem ends it and is named once."""
        self.status = replace(self.status, state="recording", source=source.path)
        try:
            self._record(source)
        except (ResidualInrError, OSError) as error:
            where = f" ({error.filename})" if isinstance(error, OSError) and error.filename else ""
            self._problem(f"recording of {source.path} ended: {reason(error)}{where}")
        except Exception as error:  # a broken source must not end the node
            self._problem(f"recording of {source.path} ended by {type(error).__name__}: {error}")

    def _problem(self, sentence: str) -> None:
        if sentence in self.status.problems:
            return
        _log.error(sentence)
        self.status = replace(self.status, problems=(*self.status.problems, sentence))

    def _record(self, source: SourceSettings) -> None:
        path = resolve(self._base, source.path)
        detector = self._settings.training.detector
        warned = False

        def leave_out(sentence: str) -> None:
            nonlocal warned
            if not warned:
                _log.warning("%s: frames that cannot be used are left out; the first: %s", path, sentence)
            warned = True
            self.status = replace(self.status, skipped=self.status.skipped + 1)

        frames = open_source(
            path,
            format=source.format,
            classes=detector.classes if source.labels == "file" else None,
            max_frames=source.max_frames,
            class_map=detector.class_map,
            skip_unreadable=True,
            on_skip=leave_out,
            limits=_limits(self._settings),
        )
        interval = 1 / source.frames_per_second if source.frames_per_second else 0.0
        due = time.monotonic()
        for frame in frames:
            if self._stop.is_set():
                return
            key = f"{path.resolve()}#{frames.place}"
            known = self._store.recorded(key) is not None
            if known and (source.labels != "file" or not frame.labelled):
                continue
            try:
                if known:
                    self._correct(key, frame)
                    continue
                ready = uploadable(frame, source, self._settings)
            except (ImageError, DatasetError) as error:
                leave_out(str(error))
                continue
            if interval:
                if self._stop.wait(max(0.0, due - time.monotonic())):
                    return
                due = max(due + interval, time.monotonic())
            if source.labels == "detector" and self._labeller is not None:
                verdict = self._verdict(self._labeller, ready)
                if verdict is None:
                    return
                if verdict.boxes is not None:
                    ready = replace(ready, labelled=True, boxes=verdict.boxes)
            expires = None if source.ttl_s is None else time.time() + source.ttl_s
            if not self._store_frame(key, replace(ready, priority=source.priority), expires):
                return
            self.status = replace(self.status, state="recording", recorded=self.status.recorded + 1)
            self._on_recorded()

    def _verdict(self, labeller: Labeller, frame: Frame) -> Verdict | None:
        """What the detector says of the frame that is recorded next; None when the recorder stops.

        A frame of a validation block stays unlabelled: detectors would be measured by what one of them saw.
        """
        blocks = self._settings.validation
        # No other thread records, so this is the number that the frame will get.
        number = self._store.outbox_state().recorded
        if in_validation_block(number, block=blocks.block, held_out=blocks.held_out):
            verdict = Verdict(HELD_OUT)
            labeller.count(verdict)
            return verdict
        return labeller.label(frame.image)

    def _correct(self, key: str, frame: Frame) -> None:
        """The labels of a frame recorded before, as the source has them now.

        Raises:
            DatasetError: No message can carry them.
        """
        check_message(Correct.of(Correction(LONGEST_IDENTITY, 1, 1, 1, True, frame.boxes)), frame)
        if self._store.correct(key, True, frame.boxes) is not None:
            self.status = replace(self.status, corrected=self.status.corrected + 1)
            self._on_corrected()

    def _store_frame(self, key: str, frame: Frame, expires: float | None) -> bool:
        """Whether the frame is in the outbox; False when the recorder was stopped while it was full."""
        blocks = self._settings.validation

        def mark(number: int) -> bool:
            return in_validation_block(number, block=blocks.block, held_out=blocks.held_out)

        warned = False
        while True:
            try:
                self._store.record_frame(key, frame, mark, expires)
                return True
            except StoreFullError as error:
                if not warned:
                    _log.warning("recording waits: %s", error)
                    warned = True
                self.status = replace(self.status, state="full")
                if self._stop.wait(FULL_RETRY_S):
                    return False


def uploadable(frame: Frame, source: SourceSettings, settings: EdgeSettings) -> Frame:
    """The frame as a device uploads it: a JPEG within the limits, numbered by its outbox.

    An image of another format becomes a JPEG of quality 95. The source's own validation mark is dropped:
    the mark follows the device's frame numbers.

    Raises:
        ImageError: The image is damaged or beyond the limits.
        DatasetError: No message can carry it: too many boxes, say, or a class name too long.
    """
    limits = _limits(settings)
    header = image_header(frame.image, limits)
    image = frame.image if header.format == "JPEG" else encode_jpeg(decode_image(frame.image, limits))
    ready = replace(frame, image=image, validation=False)
    if source.labels != "file":
        ready = replace(ready, labelled=False, boxes=())
    check_message(Upload.of(replace(ready, identity=LONGEST_IDENTITY)), frame)
    return ready


def check_message(message: Message, frame: Frame) -> None:
    """See that a message about this frame can be sent.

    Raises:
        DatasetError: It cannot.
    """
    try:
        encode(message)
    except WireError as error:
        raise DatasetError(f"frame {frame.name!r} cannot be uploaded: {error}") from error


def _limits(settings: EdgeSettings) -> ImageLimits:
    return ImageLimits(settings.frame_pixels, settings.wire.max_message_bytes)
