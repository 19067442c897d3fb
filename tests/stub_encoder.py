"""An encoder process that stores without fitting: ``python -m stub_encoder``, for tests of the daemons.

A frame whose name holds ``poison`` kills the process, one with ``refuse`` cannot be encoded, one with
``hang`` is never answered.
"""

import os
import sys
import time

from fog_node.encoder_messages import Encoded, NotEncoded
from fog_node.encoder_worker import serve


def factory(start):
    print("a stray print must not harm the pipe")

    def encode(frames):
        results = []
        for frame in frames:
            if "poison" in frame.name:
                os._exit(9)
            if "hang" in frame.name:
                time.sleep(3600)
            if "slow" in frame.name:
                time.sleep(0.05)
            if "refuse" in frame.name:
                results.append(NotEncoded(f"frame {frame.name} is refused by the stub"))
            else:
                size = 150_000 if "large" in frame.name else 500
                packet = (b"stub" + frame.digest).ljust(size, b"\0")
                results.append(Encoded(packet, 30.0, tuple(35.0 for _ in frame.boxes), 0.001, True))
        return results

    return encode


if __name__ == "__main__":
    sys.exit(serve(factory))
