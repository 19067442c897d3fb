"""The messages between edge and fog: frozen dataclasses whose annotations are their schema.

Every field's type, range and length stands in its annotation and is checked by
:mod:`common.wire.framing` on both encode and decode. A field named ``payload`` travels in a
ZeroMQ frame of its own. A field added in a later protocol version needs a default, so that
neighbouring versions understand each other.

Edge to fog: Hello, Upload, Pull, Fetch, Report, Ping. Fog to edge: Welcome, Accepted, Refused,
RecordMessage, CaughtUp, Chunk, Plan, Pong, Error.
"""

from __future__ import annotations

import enum
import json
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field

from common.errors import MessageError
from common.frame import Box, Frame, FrameIdentity, content_digest
from common.store.records import INLINE_LIMIT_BYTES, Record, RecordKind

__all__ = [
    "ANY_DEVICE",
    "MAX_BOXES",
    "MAX_NUMBERS",
    "MAX_PAYLOAD_BYTES",
    "PROTOCOL_VERSION",
    "Accepted",
    "CaughtUp",
    "Chunk",
    "Error",
    "ErrorCode",
    "Fetch",
    "Hello",
    "Message",
    "Ping",
    "Plan",
    "Pong",
    "Pull",
    "RecordMessage",
    "Refused",
    "Report",
    "Subscription",
    "Upload",
    "Welcome",
]

PROTOCOL_VERSION = 1
"""Version of these messages; neighbours (one older, one newer) are understood."""

MAX_BOXES = 1_000
"""Boxes of one frame."""

MAX_NAME = 255
"""Characters of a frame's name."""

MAX_NUMBERS = 1_000
"""Frame numbers of one Accepted."""

MAX_PAYLOAD_BYTES = 64 << 20
"""Bytes of a payload frame (64 MiB): the ceiling of the setting ``max_message_bytes``."""

MAX_META_BYTES = 200_000
"""Bytes of a record's meta as JSON: 1,000 boxes with long names fit."""

ANY_DEVICE = "*"
"""In a subscription: every device that the edge may subscribe to."""

U64 = Annotated[int, Field(ge=0, lt=2**64)]
Position = Annotated[int, Field(ge=0, lt=2**63)]
Digest = Annotated[bytes, Field(min_length=32, max_length=32)]
DeviceKey = Annotated[str, Field(pattern=r"\A[0-9a-zA-Z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}\z")]
Subscription = Annotated[tuple[DeviceKey | Literal["*"], ...], Field(max_length=1_000)]
Sentence = Annotated[str, Field(max_length=2_000)]
Rate = Annotated[float, Field(ge=0, le=1e15)]
KindName = Literal["packet", "tombstone", "shared_part", "weights", "gap"]
WireBox: TypeAlias = tuple[float, float, float, float, Annotated[str, Field(max_length=100)]]
"""x0, y0, x1, y1 in pixels of the image (finite; any order until ``to_frame``), class name."""


class ErrorCode(enum.StrEnum):
    """Why something was refused; the sentence beside it is for a person."""

    BAD_MESSAGE = "bad_message"
    BAD_VERSION = "bad_version"
    NOT_ALLOWED = "not_allowed"
    BAD_IMAGE = "bad_image"
    BAD_BOX = "bad_box"
    UNKNOWN_CLASS = "unknown_class"
    CONFLICT = "conflict"
    FULL = "full"
    NOT_FOUND = "not_found"
    NO_SESSION = "no_session"
    STOPPING = "stopping"
    INTERNAL = "internal"


CodeName = Annotated[str, Field(min_length=1, max_length=40)]
"""An :class:`ErrorCode` value; a string on the wire, so that a newer peer's code is readable."""


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
        )

    def to_frame(self, device: str) -> Frame:
        """The frame, recorded by the device with this authenticated key.

        Raises:
            BoxError: A box is no region.
            MessageError: The image does not match its digest, or an unlabelled frame has boxes.
        """
        if content_digest(self.payload) != self.digest:
            raise MessageError(f"the image of frame {self.number} does not match its digest; upload it again")
        if self.boxes and not self.labelled:
            raise MessageError(f"frame {self.number} has boxes but is marked unlabelled; mark it labelled")
        return Frame(
            name=self.name,
            image=self.payload,
            width=self.width,
            height=self.height,
            labelled=self.labelled,
            boxes=tuple(Box(*box) for box in self.boxes),
            identity=FrameIdentity(device, self.epoch, self.number),
            validation=self.validation,
        )


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
        training_seconds: One training round.
        uplink_bytes_per_second, downlink_bytes_per_second: Of the link to the fog.
        jpeg_bytes_per_frame: Mean size of a recorded image.
        frames_recorded: Recorded so far.
        map50, map50_95: Of the detector in use, 0..1.
        position: Position that the trainer has learned from.
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


@dataclass(frozen=True, slots=True)
class Ping:
    """Sent when nothing else was for a heartbeat interval; any traffic counts as life."""


@dataclass(frozen=True, slots=True)
class Welcome:
    """Answers Hello.

    Attributes:
        session: Random number of this session.
        log_id: Id of the fog's log; another one than before means: pull from 0.
        last_position: Newest position of the log.
        device: The edge's key as authenticated.
        fog: Device key under which the fog's own records (weights) stand in the log.
        may_upload: Whether uploads are accepted from it.
        max_upload_bytes: Image bytes of one upload at most.
        max_uploads: Uploads in flight (not yet accepted or refused) at most.
        chunk_bytes: Length of a Fetch at most.
        heartbeat_seconds: Interval of heartbeats.
    """

    session: U64
    log_id: U64
    last_position: Position
    device: DeviceKey
    fog: DeviceKey
    may_upload: bool
    max_upload_bytes: Annotated[int, Field(ge=1, le=MAX_PAYLOAD_BYTES)]
    max_uploads: Annotated[int, Field(ge=1, le=100_000)]
    chunk_bytes: Annotated[int, Field(ge=1, le=MAX_PAYLOAD_BYTES)]
    heartbeat_seconds: Annotated[float, Field(gt=0, le=3_600)]


@dataclass(frozen=True, slots=True)
class Accepted:
    """These frames are on the fog's disk.

    Attributes:
        epoch: The epoch of the uploads.
        numbers: Their frame numbers.
    """

    epoch: U64
    numbers: Annotated[tuple[U64, ...], Field(max_length=MAX_NUMBERS)]


@dataclass(frozen=True, slots=True)
class Refused:
    """This frame was not stored.

    Attributes:
        epoch, number: The upload.
        code: An :class:`ErrorCode` value.
        sentence: What was wrong and how to mend it.
        permanent: False: send it again later; True: never again.
    """

    epoch: U64
    number: U64
    code: CodeName
    sentence: Sentence
    permanent: bool


@dataclass(frozen=True, slots=True)
class RecordMessage:
    """One record of the log; use :meth:`of` and :meth:`to_record`.

    Attributes:
        position, kind, device, epoch, number, digest, size: As in the record.
        meta: The record's meta as a JSON object.
        large: The payload is not here: fetch it by digest before applying the record.
        payload: The record's payload, empty when large.
    """

    position: Position
    kind: KindName
    device: DeviceKey | Literal[""]
    epoch: U64
    number: U64
    digest: Digest
    meta: Annotated[str, Field(max_length=MAX_META_BYTES)]
    size: Position
    large: bool
    payload: Annotated[bytes, Field(max_length=INLINE_LIMIT_BYTES)] = field(repr=False)

    @classmethod
    def of(cls, record: Record) -> RecordMessage:
        """The message that carries a record."""
        return cls(
            position=record.position,
            kind=record.kind.value,
            device=record.device,
            epoch=record.epoch,
            number=record.number,
            digest=record.digest,
            meta=json.dumps(dict(record.meta), allow_nan=False, separators=(",", ":")),
            size=record.size,
            large=record.payload is None,
            payload=record.payload or b"",
        )

    def to_record(self) -> Record:
        """The record; its payload is None when large.

        Raises:
            MessageError: Size, digest or meta contradict the payload.
        """
        if not self.large and (len(self.payload) != self.size or content_digest(self.payload) != self.digest):
            raise MessageError(f"record {self.position} does not match its digest; pull it again")
        if self.large and (self.payload or self.size <= INLINE_LIMIT_BYTES):
            raise MessageError(f"record {self.position} is marked large but is not; pull it again")
        return Record(
            position=self.position,
            kind=RecordKind(self.kind),
            device=self.device,
            epoch=self.epoch,
            number=self.number,
            digest=self.digest,
            meta=_meta(self.meta, self.position),
            size=self.size,
            payload=None if self.large else self.payload,
        )


def _meta(text: str, position: int) -> dict[str, Any]:
    def refuse(constant: str) -> float:
        raise ValueError(f"{constant} is not JSON")

    try:
        value = json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise MessageError(f"the meta of record {position} is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise MessageError(f"the meta of record {position} is no JSON object")
    return value


@dataclass(frozen=True, slots=True)
class CaughtUp:
    """No further record for this edge up to ``position``: store it as its position."""

    position: Position


@dataclass(frozen=True, slots=True)
class Chunk:
    """Answers Fetch.

    Attributes:
        digest: Content hash of the whole.
        offset: Place of the first byte.
        total: Bytes of the whole.
        payload: The bytes.
    """

    digest: Digest
    offset: Position
    total: Position
    payload: Annotated[bytes, Field(max_length=MAX_PAYLOAD_BYTES)] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Plan:
    """The planner's choice.

    Attributes:
        strategy: Name of the strategy.
        sentence: Why, in words.
        train: Whether this edge trains now.
    """

    strategy: Annotated[str, Field(max_length=100)]
    sentence: Sentence
    train: bool = True


@dataclass(frozen=True, slots=True)
class Pong:
    """Answers Ping."""


@dataclass(frozen=True, slots=True)
class Error:
    """Something that was asked cannot be done; the session goes on unless the code ends it.

    Attributes:
        code: An :class:`ErrorCode` value.
        sentence: What was wrong and how to mend it.
        digest: The content it is about (an answer to Fetch), else None.
    """

    code: CodeName
    sentence: Sentence
    digest: Digest | None = None


Message: TypeAlias = (
    Hello
    | Upload
    | Pull
    | Fetch
    | Report
    | Ping
    | Welcome
    | Accepted
    | Refused
    | RecordMessage
    | CaughtUp
    | Chunk
    | Plan
    | Pong
    | Error
)
"""Any message."""
