"""The messages that an edge sends to its fog."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from pydantic import Field

from common.errors import MessageError
from common.frame import Box, Frame, FrameIdentity
from common.store.corrections import Correction
from common.wire.fields import (
    MAX_BOXES,
    MAX_NAME,
    MAX_PAYLOAD_BYTES,
    U64,
    Digest,
    Features,
    KindName,
    Position,
    Priority,
    Rate,
    Subscription,
    WireBox,
)

__all__ = ["Correct", "Fetch", "Hello", "Ping", "Pull", "Report", "Upload"]


@dataclass(frozen=True, slots=True)
class Hello:
    """Opens a session; the first message after every connect.

    Attributes:
        epoch: The edge's epoch.
        log_id: Id of the log that the edge follows, None before its first.
        position: Position of that log up to which it holds what it subscribed to.
        devices: Subscription: device keys, or ``("*",)`` for all it may see; empty for none.
        kinds: Kinds of records it wants.
        software: Product version, for the fog's status.
        more_kinds: Kinds of records beyond those five that it wants; a fog that does not know one passes
            over it (since version 2).
        features: As :data:`common.wire.fields.FEATURES` (since version 2).
    """

    epoch: U64
    position: Position
    log_id: U64 | None = None
    devices: Subscription = ()
    kinds: Annotated[tuple[KindName, ...], Field(max_length=16)] = (
        "packet",
        "tombstone",
        "shared_part",
        "weights",
        "gap",
    )
    software: Annotated[str, Field(max_length=40)] = ""
    more_kinds: Features = ()
    features: Features = ()


@dataclass(frozen=True, slots=True)
class Correct:
    """Corrected labels of a frame that the fog has; only for a fog whose Welcome names the feature
    ``corrections``.

    Attributes:
        epoch, number: The frame's identity beside the sender's key.
        revision: From 1; of several corrections of a frame the greatest holds.
        labelled: Whether the boxes are known; False takes the frame out of training.
        boxes: Object regions in pixels of the recorded image.
    """

    epoch: U64
    number: U64
    revision: Annotated[int, Field(ge=1, lt=2**16)]
    labelled: bool
    boxes: Annotated[tuple[WireBox, ...], Field(max_length=MAX_BOXES)]

    @classmethod
    def of(cls, correction: Correction) -> Correct:
        """The message of a correction."""
        identity = correction.identity
        boxes = tuple((float(b.x0), float(b.y0), float(b.x1), float(b.y1), b.name) for b in correction.boxes)
        return cls(identity.epoch, identity.number, correction.revision, correction.labelled, boxes)


@dataclass(frozen=True, slots=True)
class Upload:
    """One recorded frame; the image is the payload.

    Attributes:
        epoch, number: Its identity beside the sender's key.
        name: Name at the source.
        width, height: Size of the image, pixels.
        labelled: Whether the boxes are known.
        boxes: Object regions in pixels of the image.
        validation: Whether it is held out.
        digest: Content hash of the image.
        priority: Of its source, 0 to 9: frames of higher priority are encoded first (since version 2).
    """

    epoch: U64
    number: U64
    name: Annotated[str, Field(max_length=MAX_NAME)]
    width: Annotated[int, Field(ge=1, le=65_535)]
    height: Annotated[int, Field(ge=1, le=65_535)]
    labelled: bool
    boxes: Annotated[tuple[WireBox, ...], Field(max_length=MAX_BOXES)]
    validation: bool
    digest: Digest
    payload: Annotated[bytes, Field(min_length=1, max_length=MAX_PAYLOAD_BYTES)] = field(repr=False)
    priority: Priority = 0

    @classmethod
    def of(cls, frame: Frame) -> Upload:
        """The upload of a numbered frame.

        Raises:
            MessageError: The frame has no identity.
        """
        if frame.identity is None:
            raise MessageError(f"frame {frame.name!r} has no identity yet; record it first")
        return cls(
            epoch=frame.identity.epoch,
            number=frame.identity.number,
            # A file name need not be legal text, nor short; it only serves people here.
            name=frame.name.encode("utf-8", "replace").decode("utf-8")[:MAX_NAME],
            width=frame.width,
            height=frame.height,
            labelled=frame.labelled,
            boxes=tuple((float(b.x0), float(b.y0), float(b.x1), float(b.y1), b.name) for b in frame.boxes),
            validation=frame.validation,
            digest=frame.digest,
            payload=frame.image,
            priority=frame.priority,
        )

    def to_frame(self, device: str) -> Frame:
        """The frame, recorded by the device with this authenticated key.

        Raises:
            BoxError: A box is no region.
            MessageError: The image does not match its digest, or an unlabelled frame has boxes.
        """
        if self.boxes and not self.labelled:
            raise MessageError(f"frame {self.number} has boxes but is marked unlabelled; mark it labelled")
        frame = Frame(
            name=self.name,
            image=self.payload,
            width=self.width,
            height=self.height,
            labelled=self.labelled,
            boxes=tuple(Box(*box) for box in self.boxes),
            identity=FrameIdentity(device, self.epoch, self.number),
            validation=self.validation,
            priority=self.priority,
        )
        if frame.digest != self.digest:
            raise MessageError(f"the image of frame {self.number} does not match its digest; upload it again")
        return frame


@dataclass(frozen=True, slots=True)
class Pull:
    """The edge holds everything up to ``position``; the fog may send this much beyond it.

    It states the whole window, so a repeated or lost Pull does no harm.

    Attributes:
        position: As in Hello.
        records: Records in flight at most.
        payload_bytes: Payload bytes in flight at most; one record is always allowed.
    """

    position: Position
    records: Annotated[int, Field(ge=0, le=1_000_000)]
    payload_bytes: Annotated[int, Field(ge=0, le=2**40)]


@dataclass(frozen=True, slots=True)
class Fetch:
    """Asks for a part of a large payload or of an original; a Chunk or an Error answers.

    Attributes:
        digest: Content hash of the whole.
        offset: First byte wanted.
        length: Bytes wanted at most.
    """

    digest: Digest
    offset: Position
    length: Annotated[int, Field(ge=1, le=MAX_PAYLOAD_BYTES)]


@dataclass(frozen=True, slots=True)
class Report:
    """Measured rates of the edge, for the planner; what was not measured is None.

    Attributes:
        decode_frames_per_second: Packets decoded at training resolution.
        training_seconds: One training round, decoding included.
        training_frames_per_second: Frames trained on a second, decoding left out; None also when a round is
            cut short by a limit, so that its length does not follow the frames.
        uplink_bytes_per_second, downlink_bytes_per_second: Of the link to the fog, while it was busy.
        latency_seconds: Of a small message in one direction.
        jpeg_bytes_per_frame: Mean size of a recorded image.
        frames_recorded: Recorded so far.
        map50, map50_95: Of the detector in use, 0..1.
        position: Position that the trainer has learned from.
        frames_expired: Recorded, and dropped because they had waited longer than their time to live.
        frames_refused: Recorded, and refused by a fog for good.
    """

    decode_frames_per_second: Rate | None = None
    training_seconds: Rate | None = None
    uplink_bytes_per_second: Rate | None = None
    downlink_bytes_per_second: Rate | None = None
    jpeg_bytes_per_frame: Rate | None = None
    frames_recorded: U64 | None = None
    map50: Annotated[float, Field(ge=0, le=1)] | None = None
    map50_95: Annotated[float, Field(ge=0, le=1)] | None = None
    position: Position | None = None
    training_frames_per_second: Rate | None = None
    latency_seconds: Rate | None = None
    frames_expired: U64 | None = None
    frames_refused: U64 | None = None


@dataclass(frozen=True, slots=True)
class Ping:
    """Sent when nothing else was for a heartbeat interval; any traffic counts as life."""
