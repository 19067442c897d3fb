"""Who wants whose frames: from that to each device's receivers and to what it receives."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from common.errors import ConfigError
from common.planning.deployment import DeviceLoad, Inbound

__all__ = ["with_audience"]


def with_audience(
    devices: Sequence[DeviceLoad],
    wants: Mapping[str, Collection[str] | None],
    *,
    alpha: float | None = None,
    unheard: bool = False,
) -> tuple[DeviceLoad, ...]:
    """The devices with ``receivers``, ``inbound``, ``learns`` and ``own_returned`` filled in.

    Takes time in proportion to the devices plus the names in ``wants``; "everything" counts as one name.

    Args:
        devices: Each with a name of its own, and measured packet bytes unless ``alpha`` is given. One that
            stands for several (``count``) may share a name with nobody else; its members want each other's
            frames when they want their own name's.
        wants: By the name of a device that learns: names of the devices whose frames it wants, or None for
            all. A device that names itself wants its own packets back, as does one that wants all. Devices
            that are missing here only record.
        alpha: Packet bytes / JPEG bytes of devices whose packets were not measured.
        unheard: Whether a device may record frames that nobody wants.

    Raises:
        ConfigError: A name is unknown or not unique, the packets' size is unknown, or nobody wants a device's
            frames.
    """
    by_name = {device.name: device for device in devices}
    if len(by_name) < len(devices) or "" in by_name:
        raise ConfigError("every device needs a name of its own when it is told who wants whose frames")
    for name, sources in wants.items():
        for known in (name, *(sources or ())):
            if known not in by_name:
                raise ConfigError(
                    f"device {name!r} is told to want frames of {known!r}, but there is no such device"
                    if known != name
                    else f"it is told whose frames device {name!r} wants, but there is no such device"
                )
    packets = {device.name: _packets(device, alpha) for device in devices}
    everyone = sum(by_name[name].count for name, sources in wants.items() if sources is None)
    named = dict.fromkeys(by_name, 0)
    for name, sources in wants.items():
        for source in set(sources or ()):
            named[source] += by_name[name].count
    total = _sum(devices, packets)
    completed = []
    for device in devices:
        sources = wants.get(device.name, ())
        own = device.name in wants and (sources is None or device.name in sources)
        # Of those that want this name, one is the device itself.
        receivers = everyone + named[device.name] - own
        if device.jpeg_bytes and not receivers and not unheard:
            raise ConfigError(
                f"nobody wants the frames of device {device.name!r}; "
                "let a device want them, or let it record none"
            )
        if device.name not in wants:
            wanted = Inbound(0.0, 0.0, 0.0)
        else:
            wanted = total if sources is None else _sum([by_name[name] for name in set(sources)], packets)
        if own:
            wanted = _less(wanted, device, packets[device.name])
        completed.append(
            replace(
                device,
                receivers=receivers,
                inbound=wanted,
                learns=device.name in wants,
                own_returned=own,
            )
        )
    return tuple(completed)


def _packets(device: DeviceLoad, alpha: float | None) -> float:
    if device.packet_bytes is not None:
        return device.packet_bytes
    if alpha is None:
        raise ConfigError(f"device {device.name!r} has no measured packet bytes; measure them or give alpha")
    return alpha * device.jpeg_bytes


def _sum(devices: Sequence[DeviceLoad], packets: Mapping[str, float]) -> Inbound:
    """All frames of the devices, members of a group included."""
    return Inbound(
        math.fsum(d.jpeg_bytes * d.count for d in devices),
        math.fsum(packets[d.name] * d.count for d in devices),
        math.fsum(d.frames * d.count for d in devices),
    )


def _less(wanted: Inbound, device: DeviceLoad, packet_bytes: float) -> Inbound:
    """Without the device's own frames, which nobody has to send to it as JPEG."""
    return Inbound(
        max(0.0, wanted.jpeg_bytes - device.jpeg_bytes),
        max(0.0, (wanted.packet_bytes or 0.0) - packet_bytes),
        max(0.0, wanted.frames - device.frames),
    )
