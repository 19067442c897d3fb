"""An encoder process that takes a batch and never gives it back, for benchmarks of the fog alone."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from common.frame import Frame
from fog_node.encoder_worker import BatchEncoder, serve
from fog_node.workers.encoder_messages import Encoded, NotEncoded, StartEncoder


def factory(start: StartEncoder) -> BatchEncoder:
    """The encoder."""

    def encode(frames: Sequence[Frame]) -> list[Encoded | NotEncoded]:
        while True:
            time.sleep(3600)

    return encode


if __name__ == "__main__":
    sys.exit(serve(factory))
