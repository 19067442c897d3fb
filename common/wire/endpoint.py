"""Addresses of fog nodes, tcp://HOST:PORT, checked before a socket is made."""

from __future__ import annotations

import re
from typing import Annotated

import pydantic

__all__ = ["BindAddress", "ConnectAddress"]

LAST_PORT = 65_535

ADDRESS = re.compile(r"tcp://.+:(\d{1,5}|\*)")


def _port(value: str, *, free: bool) -> str:
    """The address, if its port is one; ``free``: 0 and * let the system choose."""
    match = ADDRESS.fullmatch(value)
    if match is None:
        raise ValueError("expected tcp://HOST:PORT")
    port = match[1]
    if (port == "*" or int(port) == 0) and not free:
        raise ValueError("expected the port that the fog listens on, 1 to 65535")
    if port != "*" and int(port) > LAST_PORT:
        raise ValueError(f"there is no port {port}; expected one up to {LAST_PORT}")
    return value


BindAddress = Annotated[str, pydantic.AfterValidator(lambda value: _port(value, free=True))]
"""An address to bind, such as tcp://0.0.0.0:5570."""

ConnectAddress = Annotated[str, pydantic.AfterValidator(lambda value: _port(value, free=False))]
"""An address to connect to, such as tcp://fog.example:5570."""
