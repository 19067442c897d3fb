"""A bare ROUTER that answers every message with two bytes and keeps none: the wire without its duty.

python -m delivery.raw_server [KEYS]      encrypted when a folder of keys is given
"""

from __future__ import annotations

import sys
from pathlib import Path

import zmq

from common.wire import keys

__all__ = ["serve"]

ANSWER = b"ok"


def serve(folder: Path | None) -> None:
    """Print the port and answer until this process is ended."""
    with zmq.Context() as context, context.socket(zmq.ROUTER) as socket:
        if folder is not None:
            pair = keys.load(folder)
            socket.setsockopt(zmq.CURVE_SERVER, 1)
            socket.setsockopt(zmq.CURVE_SECRETKEY, pair.secret.encode("ascii"))
        sys.stdout.write(f"{socket.bind_to_random_port('tcp://127.0.0.1')}\n")
        sys.stdout.flush()
        while True:
            socket.send_multipart([socket.recv_multipart()[0], ANSWER])


if __name__ == "__main__":
    serve(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
