"""Which fogs an edge talks to, and what it asks of each: decided by keys and settings alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from common.errors import ConfigError, reason
from common.node.settings import resolve
from common.ownership import FogShare, owner
from common.store.records import RecordKind
from common.wire import keys
from common.wire.messages import ANY_DEVICE
from edge_node.settings import EdgeSettings, FogAddress, RecordKindName, SubscriptionSettings

__all__ = ["FogPart", "KnownFog", "known_fogs", "parts"]


@dataclass(frozen=True, slots=True)
class KnownFog:
    """A fog of the deployment.

    Attributes:
        address: tcp://HOST:PORT.
        key: Its public key.
        weight: Its share of the devices, relative to the other fogs'.
    """

    address: str
    key: str
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class FogPart:
    """What this edge has to do with one fog.

    Attributes:
        fog: The fog.
        own: Whether this device belongs to it: it uploads there, and takes detectors and plans from there.
        devices: Source devices whose records it asks for; ``*`` for all that it may see.
        kinds: Kinds of records that it asks for.
    """

    fog: KnownFog
    own: bool
    devices: tuple[str, ...]
    kinds: tuple[RecordKindName, ...]


def known_fogs(settings: EdgeSettings, base: Path) -> tuple[KnownFog, ...]:
    """The fogs of the settings, with their keys read.

    Args:
        settings: The edge's.
        base: Folder that relative paths start from.

    Raises:
        ConfigError: A key is neither a key nor the file of one.
    """
    if not settings.fogs:
        return (KnownFog(settings.fog.address, _key(settings.fog, base, "fog")),)
    return tuple(
        KnownFog(fog.address, _key(fog, base, f"fogs[{place}]"), fog.weight)
        for place, fog in enumerate(settings.fogs)
    )


def parts(device: str, fogs: Sequence[KnownFog], wanted: SubscriptionSettings) -> tuple[FogPart, ...]:
    """The fogs that this device connects to, its own first.

    Args:
        device: This device's public key.
        fogs: All fogs of the deployment.
        wanted: What it subscribes to. Of fogs that are not its own it never asks for detectors.

    Raises:
        ConfigError: Two fogs have one key.
    """
    shares = [FogShare(fog.key, fog.weight) for fog in fogs]
    own = owner(device, shares)
    chosen: dict[str, tuple[str, ...]] = dict.fromkeys((fog.key for fog in fogs), wanted.devices)
    if wanted.at == "owners" and ANY_DEVICE not in wanted.devices:
        chosen = {
            fog.key: tuple(key for key in wanted.devices if owner(key, shares) == fog.key) for fog in fogs
        }
    others = tuple(kind for kind in wanted.kinds if kind != RecordKind.WEIGHTS.value)
    found = [
        FogPart(fog, fog.key == own, chosen[fog.key], wanted.kinds if fog.key == own else others)
        for fog in fogs
    ]
    return tuple(
        sorted(
            (part for part in found if part.own or (part.devices and part.kinds)),
            key=lambda part: not part.own,
        )
    )


def _key(fog: FogAddress, base: Path, name: str) -> str:
    """A fog's public key: the setting itself, or what the file of this name holds."""
    text = fog.public_key
    if keys.KEY_PATTERN.fullmatch(text):
        return text
    path = resolve(base, text)
    try:
        return keys.check_public_key(path.read_text(encoding="ascii", errors="replace"))
    except OSError as error:
        raise ConfigError(
            f"{name}.public_key is {text!r}, which is no key of 40 characters and no readable file "
            f"({path}: {reason(error)}); copy the fog's public.key to this machine and name it there"
        ) from error
    except ConfigError as error:
        raise ConfigError(f"{name}.public_key names {path}, but {error}") from error
