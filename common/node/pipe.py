"""Length-prefixed msgpack messages over a pipe between a daemon and its child process.

A message is a map with text keys. On the pipe it is 4 bytes of length (unsigned, big-endian) and then
that many bytes of msgpack. The daemon holds the other ends of the child's stdin and stdout.
"""

from __future__ import annotations

import os
import select
import struct
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import IO, Any

import msgpack

from common.errors import MessageError

__all__ = ["PARENT_LOST_EXIT_CODE", "ParentPipe", "connect_parent", "read_message", "write_message"]

_LENGTH = struct.Struct(">I")

PARENT_LOST_EXIT_CODE = 70
"""Exit code of a child whose daemon has died (EX_SOFTWARE of sysexits.h)."""


def write_message(stream: IO[bytes], message: Mapping[str, Any], *, max_bytes: int) -> None:
    """Write one message and flush it.

    Raises:
        MessageError: The message is larger than ``max_bytes`` bytes or holds what msgpack cannot carry.
        OSError: The other side has closed the pipe.
    """
    try:
        body: bytes = msgpack.packb(dict(message), use_bin_type=True)
    except (TypeError, ValueError, OverflowError) as error:
        raise MessageError(f"a pipe message cannot be packed: {error}") from error
    if len(body) > max_bytes:
        raise MessageError(
            f"a pipe message of {len(body)} bytes is over the limit of {max_bytes}; "
            "raise pipe_bytes or lower the number of frames in a batch"
        )
    stream.write(_LENGTH.pack(len(body)) + body)
    stream.flush()


def read_message(stream: IO[bytes], *, max_bytes: int) -> dict[str, Any] | None:
    """Read one message; None at the end of the stream between two messages.

    Raises:
        MessageError: The stream ends inside a message, or the message is larger than ``max_bytes``
            (found before anything is allocated), or is not one msgpack map with text keys.
    """
    head = stream.read(_LENGTH.size)
    if not head:
        return None
    if len(head) < _LENGTH.size:
        raise MessageError("the pipe ended inside a message; the other process died while writing")
    (length,) = _LENGTH.unpack(head)
    if length > max_bytes:
        raise MessageError(f"a pipe message announces {length} bytes, over the limit of {max_bytes}")
    body = stream.read(length)
    if len(body) < length:
        raise MessageError("the pipe ended inside a message; the other process died while writing")
    try:
        message = msgpack.unpackb(body, raw=False, strict_map_key=True)
    except Exception as error:  # msgpack raises a family of its own and builtins
        raise MessageError(f"a pipe message is not msgpack: {error}") from error
    if not isinstance(message, dict) or not all(isinstance(key, str) for key in message):
        raise MessageError(f"a pipe message is a {type(message).__name__}, not a map with text keys")
    return message


@dataclass(frozen=True, slots=True)
class ParentPipe:
    """The child's side of the two pipes to its daemon.

    Attributes:
        source: Messages from the daemon.
        sink: Messages to the daemon.
        max_bytes: Bound on one message in either direction.
    """

    source: IO[bytes]
    sink: IO[bytes]
    max_bytes: int

    def receive(self) -> dict[str, Any] | None:
        """The next message of the daemon, as :func:`read_message`; None when it closed the pipe."""
        return read_message(self.source, max_bytes=self.max_bytes)

    def send(self, message: Mapping[str, Any]) -> None:
        """Send a message to the daemon, as :func:`write_message`."""
        write_message(self.sink, message, max_bytes=self.max_bytes)


def connect_parent(*, max_bytes: int = 64 * 1024 * 1024) -> ParentPipe:
    """Take over stdin and stdout of this process as the pipes to its daemon.

    From here on file descriptor 1 is stderr, so a stray print of a library cannot corrupt a message,
    and descriptor 0 is empty. A thread ends this process at once when the daemon dies, even in the
    middle of a computation, so no orphan goes on burning the machine.
    """
    source = os.fdopen(os.dup(0), "rb")
    sink = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    threading.Thread(
        target=_end_with_parent, args=(source.fileno(),), name="parent-watch", daemon=True
    ).start()
    return ParentPipe(source, sink, max_bytes)


def _end_with_parent(descriptor: int) -> None:
    # No event is asked for: poll still reports a hang-up, and does so before unread data is drained.
    poll = select.poll()
    poll.register(descriptor, 0)
    while not poll.poll(5_000):
        pass
    os._exit(PARENT_LOST_EXIT_CODE)
