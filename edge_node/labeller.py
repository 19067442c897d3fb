"""The labelling process as the recorder sees it: asked for one frame at a time, replaced when it dies."""

from __future__ import annotations

import logging
import queue
import signal
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

from common.errors import BoxError, MessageError, reason
from common.node.child import Child
from common.node.labelling_messages import Look, NotSeen, Seen, StartLabelling, from_map, to_map
from common.wire.backoff import Backoff
from edge_node.labelling import NO_DETECTOR, Verdict, judge
from edge_node.settings import EdgeSettings

__all__ = ["Labeller", "labeller_of"]

FAILED = "failed"
"""Why a frame is unlabelled that the process could not be asked about, or that it could not read."""

LOOK_S = 0.1
"""Longest wait before it is seen that the recorder is to stop, seconds."""

_log = logging.getLogger(__name__)


class Labeller:
    """Boxes from the detector in use.

    No frame waits for ever: a process that dies or hangs is replaced, and after ``labelling.tries`` of them
    the frame is given back unlabelled. Frames that come before the next process may start, by the waits of
    ``children``, are given back at once.

    :meth:`label` is called in the recorder's thread, the rest in any.

    Args:
        settings: The edge's settings.
        detector: File of the detector in use; there need not be one yet.
    """

    def __init__(self, settings: EdgeSettings, detector: Path) -> None:
        self._rules = settings.labelling
        self._classes = settings.training.detector.classes
        self._children = settings.children
        self._detector = detector
        self._start = StartLabelling(
            training=settings.training.detector.model_dump(mode="json"),
            device=self._rules.device,
            threads=self._rules.threads,
            nice=self._rules.nice,
            least_confidence=self._rules.doubt,
            most_detections=self._rules.max_boxes + 1,
            frame_pixels=settings.frame_pixels,
            frame_bytes=settings.wire.max_message_bytes,
        )
        self._backoff = Backoff(self._children.restart_first_s, self._children.restart_max_s)
        self._lock = threading.Lock()
        self._child: Child | None = None
        self._heard: queue.SimpleQueue[dict[str, Any] | int] = queue.SimpleQueue()
        self._closed = threading.Event()
        self._ticket = 0
        self._counts: Counter[str] = Counter()
        self._problem: str | None = None

    @property
    def child(self) -> Child | None:
        """The running process, if any."""
        return self._child

    def label(self, image: bytes) -> Verdict | None:
        """The boxes of a frame; None when there is no answer because the node stops."""
        verdict = self._ask(image) if self._detector.exists() else Verdict(NO_DETECTOR)
        if verdict is not None:
            self.count(verdict)
        return verdict

    def count(self, verdict: Verdict) -> None:
        """Count what became of a frame."""
        self._counts[verdict.why] += 1

    def close(self) -> None:
        """Start no process any more; the one that runs is ended by the node."""
        with self._lock:
            self._closed.set()

    def status(self) -> dict[str, Any]:
        """The labelling's part of the status file."""
        child = self._child
        return {
            "pid": None if child is None else child.pid,
            "frames": dict(self._counts.copy()),
            "problem": self._problem,
        }

    def _ask(self, image: bytes) -> Verdict | None:
        for _ in range(self._rules.tries):
            if not self._backoff.ready(time.monotonic()) and self._child is None:
                break
            try:
                seen = self._seen(image)
            except MessageError as error:
                self._abandon(f"the labelling process {error}")
                continue
            if seen is None:
                return None
            self._backoff.succeeded()
            if isinstance(seen, NotSeen):
                self._name(f"a frame could not be labelled: {seen.reason}")
                return Verdict(FAILED)
            try:
                return judge(seen.detections, self._classes, self._rules)
            except (BoxError, IndexError, TypeError, ValueError) as error:
                self._abandon(f"the labelling process gave boxes that are none: {error}")
                return Verdict(FAILED)
        else:
            # Only now: the tries of one frame follow each other at once.
            self._backoff.failed(time.monotonic())
        return None if self._closed.is_set() else Verdict(FAILED)

    def _seen(self, image: bytes) -> Seen | NotSeen | None:
        """The process's answer; None when the node stops.

        Raises:
            MessageError: It died, hangs, or says what it must not.
        """
        if not self._running():
            return None
        self._ticket += 1
        self._child_send(Look(self._ticket, str(self._detector), image))
        end = time.monotonic() + self._rules.timeout_s
        while not self._closed.is_set():
            try:
                value = self._heard.get(timeout=LOOK_S)
            except queue.Empty:
                if time.monotonic() > end:
                    raise MessageError(f"gave no answer within {self._rules.timeout_s:g} s") from None
                continue
            if isinstance(value, int):
                raise MessageError(f"ended with exit code {value}")
            answer = from_map(value)
            if not isinstance(answer, Seen | NotSeen):
                raise MessageError(f"said {answer.kind!r}, which is no answer")
            if answer.ticket == self._ticket:
                return answer
        return None

    def _running(self) -> bool:
        """Whether there is a process, started if need be; False once the node stops."""
        with self._lock:
            if self._closed.is_set():
                return False
            if self._child is None:
                heard: queue.SimpleQueue[dict[str, Any] | int] = queue.SimpleQueue()
                try:
                    self._child = Child(
                        self._rules.module,
                        arguments=[str(self._children.pipe_bytes)],
                        threads=self._rules.threads,
                        max_bytes=self._children.pipe_bytes,
                        on_message=heard.put,
                        on_exit=heard.put,
                    )
                except OSError as error:
                    raise MessageError(f"cannot be started: {reason(error)}") from error
                # What an earlier process still says reaches nobody.
                self._heard = heard
                _log.info("labelling process started, pid %d", self._child.pid)
                self._child.send(to_map(self._start))
        return True

    def _child_send(self, message: Look) -> None:
        child = self._child
        if child is not None:
            child.send(to_map(message))

    def _abandon(self, sentence: str) -> None:
        """Kill a process that is of no use."""
        self._name(sentence)
        with self._lock:
            child, self._child = self._child, None
        if child is not None:
            child.terminate(signal.SIGKILL)
            child.wait(self._children.terminate_s)

    def _name(self, sentence: str) -> None:
        if sentence != self._problem:
            _log.warning("%s", sentence)
        self._problem = sentence


def labeller_of(settings: EdgeSettings, detector: Path) -> Labeller | None:
    """What labels the frames of an edge; None when none of its sources asks for it."""
    wanted = any(source.labels == "detector" for source in settings.sources)
    return Labeller(settings, detector) if wanted else None
