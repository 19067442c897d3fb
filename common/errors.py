"""Typed errors: one clear sentence each, saying what was wrong, where, and how to mend it.

The tree::

    ResidualInrError                      exit code 1
    ├── UsageError                        exit code 2: wrong command-line usage
    ├── ConfigError                       exit code 2: a configuration that cannot be used
    ├── DatasetError                      a source of frames that cannot be read
    ├── ImageError                        bytes that are no image this system accepts
    ├── BoxError                          a box that is no region (NaN, negative or zero size)
    ├── PacketError                       bytes that are no packet
    │   ├── PacketFormatError             malformed, truncated or out of bounds
    │   ├── PacketVersionError            written by a newer or unknown format
    │   ├── PacketChecksumError           damaged in storage or transit
    │   └── KeyframeError                 the packet that this one refers to is missing or does not fit
    ├── WireError                         a message that a peer must not have sent
    │   ├── MessageError                  malformed or oversized
    │   │   └── UnknownMessageError       of a type that is not known here
    │   ├── MessageVersionError           of a protocol version not spoken here
    │   └── NotAllowedError               the key lacks the right
    ├── StoreError                        durable storage failed
    │   ├── StoreFullError                disk or quota is full; nothing was acknowledged
    │   ├── StoreCorruptError             a record does not match its checksum
    │   └── IdentityConflictError         the same frame identity with other bytes
    ├── EncodeError                       a frame that cannot be encoded
    ├── LearningError                     training or evaluation that cannot go on
    └── DeploymentError                   nodes started on this machine that did not get through their task
"""

from __future__ import annotations

__all__ = [
    "BoxError",
    "ConfigError",
    "DatasetError",
    "DeploymentError",
    "EncodeError",
    "IdentityConflictError",
    "ImageError",
    "KeyframeError",
    "LearningError",
    "MessageError",
    "MessageVersionError",
    "NotAllowedError",
    "PacketChecksumError",
    "PacketError",
    "PacketFormatError",
    "PacketVersionError",
    "ResidualInrError",
    "StoreCorruptError",
    "StoreError",
    "StoreFullError",
    "UnknownMessageError",
    "UsageError",
    "WireError",
    "reason",
]


def reason(error: BaseException) -> str:
    """Why something failed, in the system's own words where it has some: no number, and no path twice."""
    return str(getattr(error, "strerror", None) or error)


class ResidualInrError(Exception):
    """Base of every error this system raises on purpose; its text is one sentence for a person."""

    exit_code = 1


class UsageError(ResidualInrError):
    """Wrong command-line usage."""

    exit_code = 2


class ConfigError(ResidualInrError):
    """A configuration that cannot be used."""

    exit_code = 2


class DatasetError(ResidualInrError):
    """A source of frames that cannot be read."""


class ImageError(ResidualInrError):
    """Bytes that are no image this system accepts."""


class BoxError(ResidualInrError):
    """A box that is no region: NaN, infinite, negative or zero size."""


class PacketError(ResidualInrError):
    """Bytes that are no packet."""


class PacketFormatError(PacketError):
    """A packet that is malformed, truncated or out of bounds."""


class PacketVersionError(PacketError):
    """A packet written by a newer or unknown format."""


class PacketChecksumError(PacketError):
    """A packet damaged in storage or transit."""


class KeyframeError(PacketError):
    """The packet that another one refers to is missing or does not fit."""


class WireError(ResidualInrError):
    """A message that a peer must not have sent."""


class MessageError(WireError):
    """A message that is malformed, oversized or of an unknown type."""


class UnknownMessageError(MessageError):
    """A message of a type that is not known here, such as a newer neighbour's."""


class MessageVersionError(WireError):
    """A message of a protocol version that is not spoken here."""


class NotAllowedError(WireError):
    """The peer's key lacks the right to do this."""


class StoreError(ResidualInrError):
    """Durable storage failed."""


class StoreFullError(StoreError):
    """The disk or the quota is full; nothing was acknowledged."""


class StoreCorruptError(StoreError):
    """A record does not match its checksum."""


class IdentityConflictError(StoreError):
    """The same frame identity arrived with other bytes."""


class EncodeError(ResidualInrError):
    """A frame that cannot be encoded."""


class LearningError(ResidualInrError):
    """Training or evaluation that cannot go on."""


class DeploymentError(ResidualInrError):
    """Nodes that were started on this machine did not get through their task."""
