"""Devices of a few lines: they speak the product's messages, and keep nothing on a disk."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import zmq

from common.errors import DeploymentError
from common.frame import Box, Frame, FrameIdentity
from common.images import encode_jpeg
from common.wire import keys
from common.wire.framing import decode, encode
from common.wire.messages import (
    Accepted,
    CaughtUp,
    Error,
    Hello,
    Message,
    Pull,
    RecordMessage,
    Refused,
    Upload,
    Welcome,
)
from common.wire.settings import WireSettings
from common.wire.sockets import edge_socket
from delivery.fog import START_S

__all__ = [
    "EPOCH",
    "PULL_EVERY",
    "WINDOW",
    "Listening",
    "Peer",
    "Sent",
    "answers_of",
    "encoded_uploads",
    "exchange",
    "make_frames",
    "noise",
    "subscribe",
]

EPOCH = 1
"""Epoch of every device here."""

WINDOW = (WireSettings().window_records, WireSettings().window_bytes)
"""Records and bytes that a subscriber asks for at a time, as an edge does."""

PULL_EVERY = 50
"""Records after which a subscriber states its position anew, unless half a window of bytes comes first."""

WIDTH, HEIGHT = 640, 360


class Listening(Protocol):
    """As much of a fog as its devices know."""

    @property
    def address(self) -> str:
        """Where it listens."""

    @property
    def key(self) -> str:
        """Its public key."""


class Peer:
    """One device: its socket, and its window.

    Args:
        context: Its socket is made in it.
        fog: To connect to.
        pair: The device's keys.
    """

    def __init__(self, context: zmq.Context[Any], fog: Listening, pair: keys.KeyPair) -> None:
        self.pair = pair
        self.socket = edge_socket(context, fog.address, pair, fog.key)
        self.send(Hello(epoch=EPOCH, position=0, devices=("*",)))
        welcome = decode(self.receive())
        if not isinstance(welcome, Welcome):
            raise DeploymentError(f"the fog answered Hello with {welcome}")
        self.window = welcome.max_uploads
        self.last_position = welcome.last_position

    def receive(self) -> list[bytes]:
        """The frames of the next message."""
        if not self.socket.poll(int(START_S * 1000)):
            raise DeploymentError(f"the fog has been silent for {START_S:g} s")
        parts: list[bytes] = self.socket.recv_multipart()
        return parts

    def send(self, message: Message) -> None:
        """Send a message."""
        self.socket.send_multipart(encode(message))


Sent = Sequence[list[bytes]]
"""The encoded messages of one device."""


def answers_of(parts: list[bytes]) -> int:
    """How many frames a message of the fog acknowledges.

    Raises:
        DeploymentError: It refuses one.
    """
    match decode(parts):
        case Accepted(_, numbers):
            return len(numbers)
        case Refused(_, _, _, sentence) | Error(_, sentence):
            raise DeploymentError(f"the fog refused a frame: {sentence}")
    return 0


def exchange(
    sockets: Sequence[zmq.Socket[Any]], messages: Sequence[Sent], window: int, fog: bool = True
) -> list[int]:
    """Send every socket's messages within its window until all are acknowledged.

    Args:
        sockets: One for each device.
        messages: Of each device.
        window: Messages in flight of one device.
        fog: Whether a fog answers; else each answer acknowledges one message.

    Returns:
        Messages that brought acknowledgements, for each device.
    """
    position, in_flight, answers = ([0] * len(sockets) for _ in range(3))
    left = sum(map(len, messages))
    poller = zmq.Poller()
    for socket in sockets:
        poller.register(socket, zmq.POLLIN)
    while left:
        for number, socket in enumerate(sockets):
            while position[number] < len(messages[number]) and in_flight[number] < window:
                socket.send_multipart(messages[number][position[number]])
                position[number] += 1
                in_flight[number] += 1
        ready = dict(poller.poll(int(START_S * 1000)))
        if not ready:
            raise DeploymentError(f"no acknowledgement came for {START_S:g} s")
        for number, socket in enumerate(sockets):
            if socket in ready:
                parts = socket.recv_multipart()
                count = answers_of(parts) if fog else 1
                in_flight[number] -= count
                answers[number] += count > 0
                left -= count
    return answers


def subscribe(peers: Sequence[Peer], records: int) -> int:
    """Pull the whole log at every peer; returns the bytes of its messages.

    Of most records only the number of frames is looked at, so that the fog and not its readers are measured.
    """
    got, unread, unread_bytes, size = ([0] * len(peers) for _ in range(4))
    poller = zmq.Poller()
    for peer in peers:
        poller.register(peer.socket, zmq.POLLIN)
        peer.send(Pull(0, *WINDOW))
    while min(got) < records:
        if not (ready := dict(poller.poll(int(START_S * 1000)))):
            raise DeploymentError(f"the fog has been silent for {START_S:g} s")
        for number, peer in enumerate(peers):
            if peer.socket not in ready:
                continue
            parts = peer.socket.recv_multipart()
            if len(parts) == 2:
                length = sum(map(len, parts))
                got[number] += 1
                size[number] += length
                unread[number] += 1
                unread_bytes[number] += length
                if unread[number] < PULL_EVERY and 2 * unread_bytes[number] < WINDOW[1]:
                    continue
            match decode(parts):
                case RecordMessage(position=reached) | CaughtUp(reached):
                    unread[number] = unread_bytes[number] = 0
                    peer.send(Pull(reached, *WINDOW))
                case Error(_, sentence):
                    raise DeploymentError(f"the fog says: {sentence}")
    return sum(size)


def noise(count: int, size: int, seed: int) -> list[bytes]:
    """JPEGs of about ``size`` bytes each, all different: their scans are as long to walk as real ones."""
    import numpy as np

    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (HEIGHT // 8, WIDTH // 8, 3), dtype=np.uint8)
    base = coarse.repeat(8, 0).repeat(8, 1).astype(np.int16)

    def picture(strength: int) -> Any:
        grain = random.integers(-strength, strength + 1, (HEIGHT, WIDTH, 1))
        return np.clip(base + grain, 0, 255).astype(np.uint8)

    strength = min(
        (abs(len(encode_jpeg(picture(strength), quality)) - size), strength, quality)
        for strength in (8, 32, 96)
        for quality in range(10, 100, 6)
    )[1:]
    return [encode_jpeg(picture(strength[0]), strength[1]) for _ in range(count)]


def make_frames(device: str, images: Sequence[bytes], first: int, count: int) -> list[Frame]:
    """Frames ``first`` and on of a device, with the images in turn and one box each."""
    boxes = (Box(10, 20, 60, 90, "object"),)
    return [
        Frame(
            f"{number:06d}",
            images[number % len(images)],
            WIDTH,
            HEIGHT,
            True,
            boxes,
            FrameIdentity(device, EPOCH, number),
            number % 100 >= 80,
        )
        for number in range(first, first + count)
    ]


def encoded_uploads(frames: Sequence[Frame]) -> list[list[bytes]]:
    """The messages that upload these frames."""
    return [encode(Upload.of(frame)) for frame in frames]
