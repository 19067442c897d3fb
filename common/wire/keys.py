"""CURVE keys of a node: two text files in a folder, the secret one for its owner's eyes only."""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass, field
from pathlib import Path

import zmq

from common.errors import ConfigError, reason

__all__ = [
    "KEY_PATTERN",
    "PUBLIC_NAME",
    "SECRET_NAME",
    "KeyPair",
    "check_public_key",
    "generate",
    "load",
    "others_can_write",
]

PUBLIC_NAME = "public.key"
"""File with the public key: 40 characters of Z85, the node's name towards others."""

SECRET_NAME = "secret.key"
"""File with the secret key, mode 0600; it never leaves the machine."""

KEY_PATTERN = re.compile(r"[0-9a-zA-Z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}")
"""40 characters of Z85."""


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A node's keys.

    Attributes:
        public: 40 characters of Z85.
        secret: 40 characters of Z85; left out of ``repr``.
    """

    public: str
    secret: str = field(repr=False)


def check_public_key(text: str) -> str:
    """The key, stripped.

    Raises:
        ConfigError: It is not 40 characters of Z85.
    """
    key = text.strip()
    if not KEY_PATTERN.fullmatch(key):
        raise ConfigError(
            f"{key[:60]!r} is no public key; expected the 40 characters in the node's {PUBLIC_NAME}"
        )
    return key


def others_can_write(path: Path) -> bool:
    """Whether the group or others may change the file, or what the folder holds.

    Raises:
        OSError: There is no such file.
    """
    return bool(stat.S_IMODE(path.stat().st_mode) & 0o022)


def generate(folder: str | Path) -> KeyPair:
    """Draw keys and write them into a folder (made when missing, mode 0700).

    Raises:
        ConfigError: The folder holds keys already (they are never overwritten) or cannot be written.
    """
    folder = Path(folder)
    public, secret = _draw()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name in (PUBLIC_NAME, SECRET_NAME):
            if (folder / name).exists():
                raise ConfigError(
                    f"{folder / name} exists and keys are never overwritten; use another folder, or "
                    f"remove both key files if this node shall become a new one"
                )
        # The secret first: a public key without its secret would be of no use.
        _write_new(folder / SECRET_NAME, secret, 0o600)
        _write_new(folder / PUBLIC_NAME, public, 0o644)
    except OSError as error:
        raise ConfigError(f"cannot write keys into {folder}: {reason(error)}; name another folder") from error
    return KeyPair(public, secret)


def load(folder: str | Path) -> KeyPair:
    """The keys in a folder.

    Raises:
        ConfigError: Missing, malformed, not belonging together, a secret that others can read, or a folder or
            key that others can replace.
    """
    folder = Path(folder)
    path = folder / SECRET_NAME
    try:
        mode = path.stat().st_mode
        replaceable = others_can_write(folder) or others_can_write(folder / PUBLIC_NAME)
        secret = path.read_text(encoding="ascii").strip()
        public = (folder / PUBLIC_NAME).read_text(encoding="ascii").strip()
    except FileNotFoundError as error:
        raise ConfigError(
            f"{error.filename} is not there; make keys with fog-node keygen or edge-node keygen, each on its "
            f"own machine, or name the folder that holds them"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"cannot read the keys in {folder}: {reason(error)}; name the folder made by keygen, and run the "
            "node as its owner"
        ) from error
    if stat.S_IMODE(mode) & 0o077:
        raise ConfigError(f"others can read the secret key {path}; run 'chmod 600 {path}'")
    if replaceable:
        raise ConfigError(f"others can write to the keys in {folder}; run 'chmod -R go-w {folder}'")
    if not KEY_PATTERN.fullmatch(secret):
        raise ConfigError(f"{path} holds no secret key of 40 characters; restore it or make new keys")
    if zmq.curve_public(secret.encode("ascii")).decode("ascii") != check_public_key(public):
        raise ConfigError(f"{folder / PUBLIC_NAME} does not belong to {path}; restore the right one")
    return KeyPair(public, secret)


def _draw() -> tuple[str, str]:
    """A key pair whose public key a command line does not take for an option."""
    while True:
        public, secret = (key.decode("ascii") for key in zmq.curve_keypair())
        if not public.startswith("-"):
            return public, secret


def _write_new(path: Path, text: str, mode: int) -> None:
    """Create a file with this mode from its first moment on; an existing one is an error."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "w", encoding="ascii") as handle:
        handle.write(text + "\n")
        handle.flush()
        os.fsync(handle.fileno())
