"""The encoder process of a fog node: ``python -m fog_node.encoder_worker``, started by the daemon.

It holds one encoder and answers batch after batch over the pipe of :mod:`common.node.pipe`. A batch that
fails as a whole is encoded again frame by frame, so that one bad frame costs its neighbours nothing. A fault
of the machine (memory, the accelerator) ends the process: the daemon counts it as an attempt and starts anew.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Protocol

from common.errors import MessageError, ResidualInrError
from common.frame import Frame
from common.node.pipe import connect_parent
from fog_node.workers.encoder_messages import (
    BatchEncoded,
    EncodeBatch,
    Encoded,
    EncoderReady,
    NotEncoded,
    StartEncoder,
    StopEncoder,
    from_map,
    to_map,
)

__all__ = ["BatchEncoder", "EncoderFactory", "encode_each", "factory", "serve"]


class BatchEncoder(Protocol):
    """Encodes frames of one batch, in order."""

    def __call__(self, frames: Sequence[Frame]) -> list[Encoded | NotEncoded]:
        """One answer a frame, in the same order."""
        ...


EncoderFactory = Callable[[StartEncoder], BatchEncoder]
"""Builds the encoder from the daemon's first message; heavy imports belong in here."""


def serve(factory: EncoderFactory, *, max_bytes: int = 64 * 1024 * 1024) -> int:
    """Answer the daemon until it says stop; returns the exit code."""
    pipe = connect_parent(max_bytes=max_bytes)
    first = pipe.receive()
    if first is None:
        return 0
    start = from_map(first)
    if not isinstance(start, StartEncoder):
        raise MessageError(f"an encoder worker must be told to start first, not {start.kind!r}")
    encoder = factory(start)
    pipe.send(to_map(EncoderReady()))
    while (value := pipe.receive()) is not None:
        message = from_map(value)
        if isinstance(message, StopEncoder):
            break
        if isinstance(message, EncodeBatch):
            pipe.send(to_map(BatchEncoded(message.batch, tuple(encode_each(encoder, message.frames)))))
    return 0


def encode_each(encoder: BatchEncoder, frames: Sequence[Frame]) -> list[Encoded | NotEncoded]:
    """Encode a batch; when it fails as a whole, frame by frame. One answer a frame, in order.

    Raises:
        Exception: A single frame failed by something else than a typed error. That may be the machine's fault
            and not the frame's, which therefore is not given up here.
    """
    try:
        results = encoder(frames)
        if len(results) != len(frames):
            raise MessageError(f"the encoder gave {len(results)} answers for {len(frames)} frames")
    except Exception as error:  # whatever one frame brings about, the others must be encoded
        if len(frames) > 1:
            return [result for frame in frames for result in encode_each(encoder, [frame])]
        if not isinstance(error, ResidualInrError):
            raise
        reason = " ".join(str(error).split()) or "no message"
        return [NotEncoded(f"frame {frames[0].name!r} cannot be encoded: {type(error).__name__}: {reason}")]
    return results


def factory(start: StartEncoder) -> BatchEncoder:
    """The product's encoder behind the worker's interface.

    Raises:
        ConfigError: The settings are none of this encoder's.
        EncodeError: The device is not there.
    """
    from fog_node.encoders.encoder import EncodeFailure, FrameEncoder
    from fog_node.encoders.encoder_settings import EncoderSettings

    settings = EncoderSettings.model_validate(start.settings)
    encoder = FrameEncoder(settings, device=start.device, threads=start.threads)

    def encode(frames: Sequence[Frame]) -> list[Encoded | NotEncoded]:
        results: list[Encoded | NotEncoded] = []
        for item in encoder.encode(frames):
            if isinstance(item, EncodeFailure):
                results.append(NotEncoded(item.reason))
            else:
                results.append(
                    Encoded(
                        packet=item.packet,
                        background_psnr_db=item.background_psnr_db,
                        object_psnr_db=tuple(item.object_psnr_db),
                        seconds=item.seconds,
                        reached_target=item.reached_target,
                        keyframe=item.keyframe,
                    )
                )
        return results

    return encode


def main() -> int:
    """Serve until told to stop; an error that says what is wrong is one sentence, not a traceback."""
    limit = int(sys.argv[1]) if len(sys.argv) > 1 else 64 * 1024 * 1024
    try:
        return serve(factory, max_bytes=limit)
    except ResidualInrError as error:
        sys.stderr.write(f"encoder: {error}\n")
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
