"""An encoder process that stores without fitting: ``python -m stub_encoder``, for tests of the daemons.

A frame whose name holds ``poison`` kills the process, one with ``refuse`` cannot be encoded, one with
``hang`` is never answered. A frame with ``needs`` refers to the last one with ``key``.
"""

import os
import sys
import time

from common.frame import content_digest
from common.store.records import Keyframe
from fog_node.encoder_worker import serve
from fog_node.workers.encoder_messages import Encoded, NotEncoded


def factory(start):
    keyframe = None
    print("a stray print must not harm the pipe")

    def encode(frames):
        nonlocal keyframe
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
                needed = keyframe if "needs" in frame.name else None
                objects = tuple(35.0 for _ in frame.boxes)
                results.append(Encoded(packet, 30.0, objects, 0.001, True, needed))
                if "key" in frame.name:
                    keyframe = Keyframe(content_digest(packet), len(packet))
        return results

    return encode


if __name__ == "__main__":
    sys.exit(serve(factory))
