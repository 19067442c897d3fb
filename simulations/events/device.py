"""A device: it records, uploads within its window, receives within its credit window, and may learn."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from common.wire.credits import ReceiveWindow, SendWindow
from simulations.events.channel import Done, Lane, OwnLane
from simulations.events.learner import Learner
from simulations.events.run_state import RunState
from simulations.events.scenario import GroupSettings

__all__ = ["Device", "Recording"]

Recording = tuple[int, int, float]
"""JPEG bytes, packet bytes, seconds of encoding."""


class Device:
    """One device.

    Args:
        run: What all parts share.
        number: Of this device, from 0.
        name: Group and number in the group.
        group: Its group.
        up: What it sends.
        down: What it receives.
        times: When it records.
        recordings: What it records.

    Attributes:
        deliver_upload: Takes an upload at its arrival; the fog's, set once that is made.
        leaves_fog: From a time and bytes to when they have left the fog's own connection; None: at once.
        learner: Its training; None when it does not learn.
        recorded, dropped, uploaded, refused, wanted, delivered: Frames, as in the timeline's columns; wanted
            and delivered are copies that it receives.
        jpeg_bytes, packet_bytes: Of its frames that were recorded, and that were encoded.
        bytes_up, bytes_down: That have arrived.
        latency_s: Sum over copies delivered to it, seconds.
        most_waiting: Longest outbox, frames.
    """

    __slots__ = (
        "_acks",
        "_blocked",
        "_bytes_down_column",
        "_bytes_up_column",
        "_decoding",
        "_delivered_column",
        "_down_overhead",
        "_down_rate",
        "_frames",
        "_horizon",
        "_in_flight",
        "_latency",
        "_originals",
        "_outbox",
        "_paused",
        "_per_second",
        "_queue",
        "_receive",
        "_recorded_column",
        "_recordings",
        "_run",
        "_send",
        "_stalled",
        "_times",
        "_trained_until",
        "_up_overhead",
        "_up_rate",
        "bytes_down",
        "bytes_up",
        "deliver_upload",
        "delivered",
        "down",
        "dropped",
        "encoded",
        "group",
        "jpeg_bytes",
        "latency_s",
        "learner",
        "leaves_fog",
        "most_waiting",
        "name",
        "number",
        "packet_bytes",
        "recorded",
        "refused",
        "up",
        "uploaded",
        "wanted",
        "withheld",
    )

    def __init__(
        self,
        run: RunState,
        number: int,
        name: str,
        group: GroupSettings,
        up: Lane,
        down: Lane,
        times: Iterator[float],
        recordings: Iterator[Recording],
    ) -> None:
        self._run = run
        self._frames = run.frames
        self.number = number
        self.name = name
        self.group = group
        self.up = up
        self.down = down
        self._times = times
        self._recordings = recordings
        link = group.link
        self._latency = link.latency_s
        self._up_rate = link.uplink_bytes_per_s * link.goodput
        self._down_rate = link.downlink_bytes_per_s * link.goodput
        self._up_overhead = run.scenario.upload_overhead_bytes
        self._down_overhead = run.scenario.packet_overhead_bytes
        self._outbox: deque[int] = deque()
        self._in_flight = 0
        self._acks: deque[float] = deque()
        self._blocked = False
        self._stalled = False
        self._paused = 0.0
        self.deliver_upload: Callable[[float, int], None] = _nobody
        self.leaves_fog: Callable[[float, float], float] | None = None
        self.learner: Learner | None = None
        self._queue: deque[tuple[int, int]] = deque()
        self._send = SendWindow()
        self._receive = ReceiveWindow(group.window_records, group.window_bytes)
        self._receive.pulled()
        self._send.pulled(0, group.window_records, group.window_bytes)
        columns, training = run.timeline.columns, run.scenario.training
        self._recorded_column = columns["recorded"]
        self._bytes_up_column = columns["bytes_up"]
        self._bytes_down_column = columns["bytes_down"]
        self._delivered_column = columns["delivered"]
        self._per_second = run.timeline.per_second
        self._horizon = run.timeline.horizon_s
        self._trained_until = training.validation_block - training.held_out
        self._decoding = run.scenario.decoding_s
        self._originals = group.validation_originals
        self.withheld = False
        self.recorded = self.dropped = self.uploaded = self.refused = self.encoded = 0
        self.wanted = self.delivered = 0
        self.jpeg_bytes = self.packet_bytes = 0
        self.bytes_up = self.bytes_down = 0.0
        self.latency_s = 0.0
        self.most_waiting = 0

    @property
    def outbox(self) -> int:
        """Frames recorded and not acknowledged, as of the last :meth:`settle`."""
        return len(self._outbox) + self._in_flight

    @property
    def unfinished(self) -> int:
        """Frames recorded that no fog has on disk (device to device: with copies still to be sent)."""
        return self.outbox - len(self._acks)

    @property
    def queued(self) -> int:
        """Copies in the log that have not been sent to it."""
        return len(self._queue)

    def settle(self, now: float) -> None:
        """Take the acknowledgements that have come by now."""
        acks = self._acks
        while acks and acks[0] <= now:
            acks.popleft()
            self._in_flight -= 1

    # Recording and uploading

    def start(self) -> None:
        """Plan the first frame."""
        self._run.engine.at(next(self._times, math.inf), self._record)

    def _record(self, now: float, _: Any) -> None:
        acks = self._acks
        while acks and acks[0] <= now:
            acks.popleft()
            self._in_flight -= 1
        waiting = len(self._outbox) + self._in_flight
        full = waiting >= self.group.max_outbox_frames
        if full and self.group.when_full == "wait":
            self._stalled = True
            self._wake_at_ack()
            return
        drawn = next(self._recordings, None)
        if drawn is None:
            return
        number = self.recorded
        self.recorded = number + 1
        self._recorded_column[int(now * self._per_second)] += 1
        if full:
            self.dropped += 1
            timeline = self._run.timeline
            timeline.add(timeline.columns["dropped"], now)
        else:
            trained = number % self._run.scenario.training.validation_block < self._trained_until
            self.jpeg_bytes += drawn[0]
            self._outbox.append(self._frames.add(self.number, trained, now, *drawn))
            if waiting >= self.most_waiting:
                self.most_waiting = waiting + 1
            self._fill(now)
        time = next(self._times, None)
        if time is not None:
            self._run.engine.at(time if time > now else now, self._record)

    def _fill(self, now: float) -> None:
        """Send what the upload window lets through."""
        if now < self._paused:
            return
        outbox, window = self._outbox, self.group.upload_window_frames
        while outbox and self._in_flight < window:
            frame = outbox.popleft()
            self._in_flight += 1
            self.up.send(now, self.upload_seconds(frame), self._latency, self.deliver_upload, frame)
        if outbox and not self._blocked:
            self._blocked = True
            self._wake_at_ack()

    def upload_seconds(self, frame: int) -> float:
        """Seconds of sending a frame at the nominal rate."""
        return (self._frames.jpeg_bytes[frame] + self._up_overhead) / self._up_rate

    def download_seconds(self, size: float) -> float:
        """Seconds of receiving so many bytes at the nominal rate."""
        return size / self._down_rate

    def _wake_at_ack(self) -> None:
        if self._acks:
            self._run.engine.at(self._acks[0], self._wake)

    def _wake(self, now: float, _: Any) -> None:
        """Room in the window or in the outbox, or the end of a pause."""
        self.settle(now)
        self._blocked = False
        self._fill(now)
        if self._stalled and self.outbox < self.group.max_outbox_frames:
            self._stalled = False
            self._record(now, None)
        elif self._stalled:
            self._wake_at_ack()

    def upload_arrived(self, frame: int, now: float) -> None:
        """Count an upload that has reached the fog, taken or not."""
        size = self._frames.jpeg_bytes[frame] + self._up_overhead
        self.bytes_up += size
        self._bytes_up_column[int(now * self._per_second)] += size

    def acknowledged(self, now: float) -> None:
        """The fog has a frame on disk; the acknowledgement is on its way."""
        self.uploaded += 1
        waited = not self._acks
        self._acks.append(now + self._latency)
        if waited and (self._blocked or self._stalled):
            self._run.engine.at(now + self._latency, self._wake)

    def refuse(self, frame: int, now: float, retry_s: float) -> None:
        """The fog has no room for a frame: it goes back to the front of the outbox, and waits a while."""
        self.refused += 1
        self._in_flight -= 1
        self._outbox.appendleft(frame)
        self._paused = now + self._latency + retry_s
        self._blocked = True
        self._run.engine.at(self._paused, self._wake)

    # Receiving

    def offer(self, position: int, frame: int, now: float) -> None:
        """The log has a record that this device wants."""
        self.wanted += 1
        self._queue.append((position, frame))
        if not self.withheld:
            self.push(now)

    def push(self, now: float) -> None:
        """Send what the credit window lets through."""
        queue, window, down, sizes = self._queue, self._send, self.down, self._frames.packet_bytes
        leaves = self.leaves_fog
        while queue and window.room()[0]:
            record = queue.popleft()
            size = sizes[record[1]]
            window.sent(record[0], size)
            demand = (size + self._down_overhead) / self._down_rate
            left = now if leaves is None else leaves(now, size + self._down_overhead)
            if type(down) is OwnLane:
                # Nothing can change when it is through: what follows from that is done now.
                self._arrived(down.end(left, demand) + self._latency, record)
            else:
                self._send_down(now, left, demand, self._arrived, record)

    def _arrived(self, time: float, record: tuple[int, int]) -> None:
        """A record is here at ``time``, which is now or, where nothing can change it, known beforehand."""
        if time > self._horizon:
            return
        position, frame = record
        size = self._frames.packet_bytes[frame]
        receive = self._receive
        receive.applied(size)
        if receive.due():
            receive.pulled()
            self._run.engine.at(time + self._latency, self._pull, position)
        size += self._down_overhead
        self.bytes_down += size
        self._bytes_down_column[int(time * self._per_second)] += size
        self.delivered_copy(frame, time)
        if self._originals and not self._frames.trained[frame] and self._frames.device[frame] != self.number:
            self._originals -= 1
            self._run.engine.at(time + self._latency, self._fetch, frame)

    def _fetch(self, now: float, frame: int) -> None:
        """The fog has been asked for the original of a held-out frame."""
        size = self._frames.jpeg_bytes[frame] + self._down_overhead
        left = now if self.leaves_fog is None else self.leaves_fog(now, size)
        self._send_down(now, left, size / self._down_rate, self._original, size)

    def _original(self, now: float, size: float) -> None:
        run = self._run
        self.bytes_down += size
        run.originals_bytes += size
        run.finished = max(run.finished, now)
        self._bytes_down_column[int(now * self._per_second)] += size

    def delivered_copy(self, frame: int, time: float) -> None:
        """Count a frame that is here from ``time`` on, and learn from it."""
        run, frames = self._run, self._frames
        self.delivered += 1
        self._delivered_column[int(time * self._per_second)] += 1
        frames.copies[frame] += 1
        latency = time - frames.recorded[frame] + self._decoding
        run.latency.add(latency)
        self.latency_s += latency
        if time > run.finished:
            run.finished = time
        if self.learner is not None and frames.trained[frame]:
            self.learner.frame(time)

    def _send_down(self, now: float, left: float, demand: float, done: Done, value: Any) -> None:
        """Send on this device's link once the message has left the fog."""
        if left > now:
            self._run.engine.at(left, partial(self._enter, demand, done), value)
        else:
            self.down.send(now, demand, self._latency, done, value)

    def _enter(self, demand: float, done: Done, now: float, value: Any) -> None:
        self.down.send(now, demand, self._latency, done, value)

    def _pull(self, now: float, position: int) -> None:
        self._send.pulled(position, self.group.window_records, self.group.window_bytes)
        if not self.withheld:
            self.push(now)

    def send_weights(self, size: float, now: float) -> None:
        """The fog has published a detector of so many bytes."""
        left = now if self.leaves_fog is None else self.leaves_fog(now, size)
        self._send_down(now, left, size / self._down_rate, self._weights, size)

    def _weights(self, now: float, size: float) -> None:
        run = self._run
        self.bytes_down += size
        run.weights_bytes += size
        run.finished = max(run.finished, now)
        timeline = run.timeline
        timeline.add(timeline.columns["bytes_down"], now, size)
        if self.learner is not None:
            self.learner.weights(now)


def _nobody(now: float, frame: int) -> None:
    """Takes the uploads of a device without a fog."""
