"""An edge of a few lines, which can also say what no edge says."""

from __future__ import annotations

import time
from dataclasses import replace

import zmq

from common.frame import Frame, FrameIdentity
from common.wire.framing import decode, encode
from common.wire.messages import Accepted, Error, Hello, Refused, Upload, Welcome
from common.wire.sockets import edge_socket


class Peer:
    """An edge of a few lines."""

    def __init__(self, deployment, epoch=7, wire=None, **rights):
        self.node = deployment.edge(f"peer{len(deployment.nodes)}", **rights)
        self.epoch = epoch
        self.context = zmq.Context()
        address = deployment.fog.settings["address"]
        self.socket = edge_socket(self.context, address, self.node.keys, deployment.fog.keys.public, wire)
        try:
            self.send(Hello(epoch=epoch, position=0, devices=("*",)))
            self.welcome = self.answer(Welcome)
        except BaseException:
            self.close()
            raise

    def send(self, message):
        self.raw(encode(message))

    def raw(self, frames):
        assert self.socket.poll(5000, zmq.POLLOUT)
        self.socket.send_multipart(frames)

    def answer(self, *types, seconds=10.0):
        """The next message of one of these types."""
        end = time.monotonic() + seconds
        while self.socket.poll(max(0, int(1000 * (end - time.monotonic())))):
            message = decode(self.socket.recv_multipart())
            if isinstance(message, types):
                return message
        raise AssertionError(f"no {[kind.__name__ for kind in types]} came")

    def upload(self, number, image, width=96, height=72, **fields):
        frame = Frame(
            "frame", image, width, height, True, (), FrameIdentity(self.node.keys.public, self.epoch, number)
        )
        self.send(replace(Upload.of(frame), **fields))
        return self.answer(Accepted, Refused, Error)

    def close(self):
        # With whatever a failing test has left open: ending the context would wait for that.
        self.context.destroy(0)
