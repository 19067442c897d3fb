"""Frames and records for the contract of the stores."""

import hashlib

from common.frame import Box, Frame, FrameIdentity, content_digest
from common.store.records import Record, RecordKind

__all__ = [
    "CAMERA",
    "FOG",
    "LAST",
    "OTHER",
    "finish_packet",
    "frame",
    "image",
    "never",
    "record",
    "source_meta",
]

CAMERA = "c" * 40
OTHER = "o" * 40
FOG = "f" * 40
LAST = 2**64 - 1


def image(seed, size=500):
    """Bytes that differ for each seed."""
    return hashlib.shake_128(str(seed).encode()).digest(size)


def frame(number=0, *, device=CAMERA, epoch=LAST, size=500, labelled=True, validation=False, seed=None):
    return Frame(
        name=f"frame{number}",
        image=image((device, number) if seed is None else seed, size),
        width=64,
        height=48,
        labelled=labelled,
        boxes=(Box(-1.5, 2, 30.25, 40, "car"),) if labelled else (),
        identity=FrameIdentity(device, epoch, number),
        validation=validation,
    )


def finish_packet(store, item, payload=None):
    return store.finish(item.identity, RecordKind.PACKET, {}, payload or image(("packet", item.identity)))


def never(number):
    return False


def record(position, *, number=None, kind=RecordKind.PACKET, device=OTHER, payload=b"packet", meta=None):
    return Record(
        position,
        kind,
        device,
        LAST,
        position if number is None else number,
        content_digest(payload),
        meta or {},
        len(payload),
        payload,
    )


def source_meta(original):
    """What a fog says about a validation frame."""
    return {
        "source": {
            "digest": original.digest.hex(),
            "size": len(original.image),
            "name": original.name,
            "width": original.width,
            "height": original.height,
            "labelled": original.labelled,
            "validation": original.validation,
            "boxes": [[b.x0, b.y0, b.x1, b.y1, b.name] for b in original.boxes],
        }
    }
