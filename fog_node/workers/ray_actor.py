"""An encoder worker as a Ray actor: the encoder of :mod:`fog_node.encoder_worker` behind two remote calls."""

from __future__ import annotations

import importlib
import os
import socket
from typing import Any

from common import __version__
from common.cli import yield_while_waiting
from common.errors import ConfigError, MessageError
from fog_node.encoder_worker import BatchEncoder, encode_each
from fog_node.workers.encoder_messages import BatchEncoded, EncodeBatch, StartEncoder, from_map, to_map

__all__ = ["EncoderActor"]


class EncoderActor:
    """One encoder in a process of a Ray cluster; Ray calls it once at a time.

    This module stays free of torch and ray: the driver imports it, too.
    """

    def __init__(self) -> None:
        self._encoder: BatchEncoder | None = None

    def start(self, module: str, version: str, value: dict[str, Any]) -> tuple[str, int]:
        """Build the encoder from its StartEncoder; heavy imports happen here.

        Args:
            module: Module whose ``factory`` builds it.
            version: Version of this software at the daemon.
            value: The StartEncoder as a map.

        Returns:
            Host name and process id.

        Raises:
            ConfigError: This node runs another version.
            MessageError: ``value`` is no StartEncoder.
            Exception: As the factory.
        """
        if version != __version__:
            raise ConfigError(
                f"Ray node {socket.gethostname()} has residual-inr {__version__} and this fog {version}; "
                "install the fog's version on every node of the cluster"
            )
        start = from_map(value)
        if not isinstance(start, StartEncoder):
            raise MessageError(f"an encoder worker must be told to start first, not {start.kind!r}")
        # Before numpy and torch are imported; on another machine nothing comes from the daemon's environment.
        yield_while_waiting()
        if start.threads:
            # Ray has set it to the CPUs that the worker reserves.
            os.environ["OMP_NUM_THREADS"] = str(start.threads)
        self._encoder = importlib.import_module(module).factory(start)
        return socket.gethostname(), os.getpid()

    def encode(self, value: dict[str, Any]) -> dict[str, Any]:
        """Encode an EncodeBatch given as a map; its BatchEncoded as a map.

        Raises:
            MessageError: ``value`` is no EncodeBatch, or the worker was not started.
            Exception: A fault of the machine, as :func:`fog_node.encoder_worker.encode_each`.
        """
        message = from_map(value)
        if self._encoder is None or not isinstance(message, EncodeBatch):
            raise MessageError(
                f"an encoder worker was told {message.kind!r} before it was started, or no frames"
            )
        return to_map(BatchEncoded(message.batch, tuple(encode_each(self._encoder, message.frames))))
