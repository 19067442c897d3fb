"""The messages that a fog sends to an edge."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Field

from common.errors import MessageError
from common.frame import content_digest
from common.store.records import INLINE_LIMIT_BYTES, Record, RecordKind
from common.wire.fields import (
    MAX_META_BYTES,
    MAX_NUMBERS,
    MAX_PAYLOAD_BYTES,
    U64,
    CodeName,
    DeviceKey,
    Digest,
    Features,
    KindName,
    Position,
    Sentence,
)

__all__ = [
    "Accepted",
    "CaughtUp",
    "Chunk",
    "Corrected",
    "Error",
    "Plan",
    "Pong",
    "RecordMessage",
    "Refused",
    "Welcome",
]


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
        features: As :data:`common.wire.fields.FEATURES` (since version 2).
        max_uploads_per_s, max_upload_bytes_per_s: Uploads and their image bytes that the fog takes of this
            edge in a second, None for no limit (since version 2).
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
    features: Features = ()
    max_uploads_per_s: Annotated[float, Field(gt=0, le=1e15)] | None = None
    max_upload_bytes_per_s: Annotated[float, Field(gt=0, le=1e15)] | None = None


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
        retry_after_s: Seconds to wait before, None where the edge decides (since version 2).
    """

    epoch: U64
    number: U64
    code: CodeName
    sentence: Sentence
    permanent: bool
    retry_after_s: Annotated[float, Field(ge=0, le=86_400)] | None = None


@dataclass(frozen=True, slots=True)
class Corrected:
    """Answers Correct.

    Attributes:
        epoch, number, revision: Of the correction.
        code: Empty when it is on the fog's disk, else an :class:`ErrorCode` value.
        sentence: What was wrong and how to mend it.
        permanent: Of a refusal. False: send it again later; True: never again.
    """

    epoch: U64
    number: U64
    revision: Annotated[int, Field(ge=1, lt=2**16)]
    code: Annotated[str, Field(max_length=40)] = ""
    sentence: Sentence = ""
    permanent: bool = False


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
