"""Which fog a device belongs to, found by every node from the public keys alone.

Rendezvous hashing: every fog gets a score for the device, and the highest one owns it. No node asks another
one, and when a fog is added, only devices that move to it move at all. Thaler, Ravishankar: "Using name-based
mappings to increase hit rates", IEEE/ACM Transactions on Networking 6 (1998) 1. Weights by the logarithmic
method, which keeps that property: Schindelhauer, Schomaker: "Weighted distributed hash tables", SPAA 2005.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from common.errors import ConfigError

__all__ = ["FogShare", "owned", "owner"]


@dataclass(frozen=True, slots=True)
class FogShare:
    """A fog among others.

    Attributes:
        key: Its public key.
        weight: Its share of the devices, relative to the others' weights; above 0.
    """

    key: str
    weight: float = 1.0


def owner(device: str, fogs: Iterable[FogShare]) -> str:
    """Key of the fog that the device belongs to; the order of ``fogs`` does not matter.

    Args:
        device: The device's public key.
        fogs: All fogs of the deployment.

    Raises:
        ConfigError: There is no fog, two have one key, or a weight is not above 0 and finite.
    """
    return _highest(device, _checked(fogs)).key


def owned(devices: Iterable[str], fogs: Iterable[FogShare]) -> dict[str, list[str]]:
    """Devices of each fog, by its key; a fog without devices has an empty list.

    Raises:
        ConfigError: As :func:`owner`.
    """
    shares = _checked(fogs)
    found: dict[str, list[str]] = {fog.key: [] for fog in shares}
    for device in devices:
        found[_highest(device, shares).key].append(device)
    return found


def _checked(fogs: Iterable[FogShare]) -> Sequence[FogShare]:
    shares = tuple(fogs)
    if not shares:
        raise ConfigError("a device needs a fog to belong to; list at least one")
    keys = [fog.key for fog in shares]
    if len(set(keys)) < len(keys):
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ConfigError(f"two fogs have the public key {twice}; give each fog keys of its own, once")
    for fog in shares:
        if not (0 < fog.weight < math.inf):
            raise ConfigError(
                f"the fog {fog.key} has the weight {fog.weight}; give it a finite one above 0, such as 1"
            )
    return shares


def _highest(device: str, fogs: Sequence[FogShare]) -> FogShare:
    if len(fogs) == 1:
        return fogs[0]
    drawn = [(_draw(device, fog.key), fog) for fog in fogs]
    # Scores grow with the numbers drawn: among equal weights the logarithm changes nothing.
    if len({fog.weight for fog in fogs}) == 1:
        return max(drawn, key=lambda entry: (entry[0], entry[1].key))[1]
    # The number and the key break ties: of rounded scores, and of one number drawn twice.
    return max(drawn, key=lambda entry: (_score(entry[0], entry[1].weight), entry[0], entry[1].key))[1]


def _draw(device: str, fog: str) -> int:
    """A number of 64 bits that both keys decide, uniform over keys."""
    # Keys may have any length in simulations: the length in front keeps two pairs apart.
    text = f"{len(fog)}:{fog}{device}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")


def _score(draw: int, weight: float) -> float:
    # Of the 64 bits a float keeps 53; halves keep the logarithm away from 0 and 1.
    return -weight / math.log(((draw >> 11) + 0.5) * 2.0**-53)
