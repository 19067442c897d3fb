"""What the fog daemon and an encoder worker say to each other over their pipe (no torch).

A conversation::

    daemon -> StartEncoder, EncodeBatch*, StopEncoder
    worker -> EncoderReady, then one BatchEncoded for each EncodeBatch, in order

An EncodeBatch holds frames of any devices; BatchEncoded answers each of them, in the same order.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeAlias

from common.errors import MessageError, ResidualInrError
from common.frame import Box, Frame, FrameIdentity
from common.store.records import Keyframe
from common.store.rows import keyframe_facts, keyframe_of

__all__ = [
    "BatchEncoded",
    "EncodeBatch",
    "Encoded",
    "EncoderMessage",
    "EncoderReady",
    "NotEncoded",
    "StartEncoder",
    "StopEncoder",
    "from_map",
    "to_map",
]


@dataclass(frozen=True, slots=True)
class StartEncoder:
    """First message.

    Attributes:
        settings: Encoder settings as a plain map.
        device: auto, cpu or cuda.
        threads: CPU threads; 0 leaves the choice to the libraries.
    """

    kind: ClassVar[str] = "start"
    settings: dict[str, Any]
    device: str = "auto"
    threads: int = 0


@dataclass(frozen=True, slots=True)
class EncodeBatch:
    """Encode these frames together; every one has its identity."""

    kind: ClassVar[str] = "encode"
    batch: int
    frames: tuple[Frame, ...]


@dataclass(frozen=True, slots=True)
class StopEncoder:
    """End after the batch under way."""

    kind: ClassVar[str] = "stop"


@dataclass(frozen=True, slots=True)
class EncoderReady:
    """The worker can encode now."""

    kind: ClassVar[str] = "ready"


@dataclass(frozen=True, slots=True)
class Encoded:
    """One frame's packet.

    Attributes:
        packet: Bytes of the packet.
        background_psnr_db: PSNR outside every box, dB; None when the boxes cover everything.
        object_psnr_db: PSNR of each box, dB.
        seconds: The frame's share of the batch's encoding time.
        reached_target: Whether the background and every box reached the quality target.
        keyframe: The packet that this one refers to, encoded before it; None when it is self-contained.
    """

    packet: bytes
    background_psnr_db: float | None
    object_psnr_db: tuple[float, ...]
    seconds: float
    reached_target: bool
    keyframe: Keyframe | None = None


@dataclass(frozen=True, slots=True)
class NotEncoded:
    """A frame that cannot be encoded, and why in one sentence."""

    reason: str


@dataclass(frozen=True, slots=True)
class BatchEncoded:
    """Answers to an EncodeBatch, in the order of its frames."""

    kind: ClassVar[str] = "encoded"
    batch: int
    results: tuple[Encoded | NotEncoded, ...] = field(default_factory=tuple)


EncoderMessage: TypeAlias = StartEncoder | EncodeBatch | StopEncoder | EncoderReady | BatchEncoded


def to_map(message: EncoderMessage) -> dict[str, Any]:
    """The message as a plain map with its ``type``, ready for the pipe."""
    value: dict[str, Any] = {"type": message.kind}
    match message:
        case StartEncoder(settings, device, threads):
            value |= {"settings": settings, "device": device, "threads": threads}
        case EncodeBatch(batch, frames):
            value |= {"batch": batch, "frames": [_frame_map(frame) for frame in frames]}
        case BatchEncoded(batch, results):
            value |= {"batch": batch, "results": [_result_map(result) for result in results]}
        case _:
            pass
    return value


def from_map(value: dict[str, Any]) -> EncoderMessage:
    """The message of a map from the pipe.

    Raises:
        MessageError: It is none.
    """
    try:
        match value["type"]:
            case StartEncoder.kind:
                return StartEncoder(dict(value["settings"]), str(value["device"]), int(value["threads"]))
            case EncodeBatch.kind:
                return EncodeBatch(int(value["batch"]), tuple(_frame(item) for item in value["frames"]))
            case BatchEncoded.kind:
                return BatchEncoded(int(value["batch"]), tuple(_result(item) for item in value["results"]))
            case StopEncoder.kind:
                return StopEncoder()
            case EncoderReady.kind:
                return EncoderReady()
            case kind:
                raise MessageError(f"an encoder message has the unknown type {kind!r}")
    except (KeyError, TypeError, ValueError, ResidualInrError) as error:
        raise MessageError(f"an encoder message is malformed: {type(error).__name__} {error}") from error


def _frame_map(frame: Frame) -> dict[str, Any]:
    identity = frame.identity
    if identity is None:
        raise MessageError(f"frame {frame.name!r} has no identity; only numbered frames are encoded")
    return {
        "device": identity.device,
        "epoch": identity.epoch,
        "number": identity.number,
        "name": frame.name,
        "image": frame.image,
        "width": frame.width,
        "height": frame.height,
        "labelled": frame.labelled,
        "boxes": [[box.x0, box.y0, box.x1, box.y1, box.name] for box in frame.boxes],
        "validation": frame.validation,
    }


def _frame(value: dict[str, Any]) -> Frame:
    return Frame(
        name=value["name"],
        image=value["image"],
        width=value["width"],
        height=value["height"],
        labelled=value["labelled"],
        boxes=tuple(Box(*box) for box in value["boxes"]),
        identity=FrameIdentity(value["device"], value["epoch"], value["number"]),
        validation=value["validation"],
    )


def _result_map(result: Encoded | NotEncoded) -> dict[str, Any]:
    if isinstance(result, NotEncoded):
        return {"reason": result.reason}
    return {
        "packet": result.packet,
        "background_psnr_db": result.background_psnr_db,
        "object_psnr_db": list(result.object_psnr_db),
        "seconds": result.seconds,
        "reached_target": result.reached_target,
        "keyframe": None if result.keyframe is None else keyframe_facts(result.keyframe),
    }


def _result(value: dict[str, Any]) -> Encoded | NotEncoded:
    if "reason" in value:
        return NotEncoded(str(value["reason"]))
    background = value["background_psnr_db"]
    return Encoded(
        packet=bytes(value["packet"]),
        background_psnr_db=None if background is None else float(background),
        object_psnr_db=tuple(float(item) for item in value["object_psnr_db"]),
        seconds=float(value["seconds"]),
        reached_target=bool(value["reached_target"]),
        keyframe=keyframe_of(value),
    )
