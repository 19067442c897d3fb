"""How many fog nodes a number of cameras needs, from measured figures: pure functions.

Each resource of a fog carries so many cameras; the scarcest one decides how many fogs there must be. Cameras
belong to fogs by their keys (:mod:`common.ownership`), so shares are uneven: among N fogs with m cameras each
on average the busiest one has about m + sqrt(2 m ln N), and that one must not be overloaded.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from common.errors import ConfigError
from common.planning.checks import check_range

__all__ = ["FogCapacity", "Footprint", "Need", "Sizing", "busiest_share", "size"]

DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Footprint:
    """What the cameras make.

    Attributes:
        frames_per_s: Frames a second of one camera, on average over a day.
        peak: Busiest hours' frames a second, relative to that average, >= 1: rates must carry it, not disks.
        jpeg_bytes: Bytes of a recorded frame, labels and header included.
        packet_bytes: Bytes of its record on its way to an edge, header included.
        receivers: Edges that receive each frame.
        stored_bytes: Bytes that a fog keeps of a frame: packet, rows and the share of originals.

    Raises:
        ConfigError: A value is out of range.
    """

    frames_per_s: float
    jpeg_bytes: float
    packet_bytes: float
    receivers: float
    stored_bytes: float
    peak: float = 1.0

    def __post_init__(self) -> None:
        check_range(
            "what the cameras make",
            frames_per_s=self.frames_per_s,
            jpeg_bytes=self.jpeg_bytes,
            packet_bytes=self.packet_bytes,
            receivers=self.receivers,
            stored_bytes=self.stored_bytes,
            peak=self.peak,
        )
        if not (self.frames_per_s > 0 and self.peak >= 1):
            raise ConfigError(
                f"cameras record {self.frames_per_s} frames a second with a peak of {self.peak}; give a rate "
                "above 0 and a peak of at least 1"
            )


@dataclass(frozen=True, slots=True)
class FogCapacity:
    """What one fog node can do; the measured rates are those of a fully busy one.

    Attributes:
        encoders: Encoders that work at the same time: cores, or accelerators.
        encode_s: Seconds that one of them takes for a frame.
        io_s_per_upload, io_s_per_record: Seconds of the daemon's one process for an upload taken, and for a
            record sent to one edge.
        disk_s: Seconds of its disk for a frame: its commit, and that of its packet.
        uplink_bytes_per_s, downlink_bytes_per_s: Of its connection; infinity for enough.
        disk_bytes: Of its disk; infinity for enough.
        retention_days: Days that it keeps its log.
        load: Share of each rate that is used at most, 0..1: queues grow without bound towards 1.

    Raises:
        ConfigError: A value is out of range.
    """

    encoders: int
    encode_s: float
    io_s_per_upload: float
    io_s_per_record: float
    disk_s: float
    retention_days: float
    uplink_bytes_per_s: float = math.inf
    downlink_bytes_per_s: float = math.inf
    disk_bytes: float = math.inf
    load: float = 0.7

    def __post_init__(self) -> None:
        check_range(
            "what a fog can do",
            encoders=self.encoders,
            encode_s=self.encode_s,
            io_s_per_upload=self.io_s_per_upload,
            io_s_per_record=self.io_s_per_record,
            disk_s=self.disk_s,
            retention_days=self.retention_days,
        )
        rates = (self.uplink_bytes_per_s, self.downlink_bytes_per_s, self.disk_bytes)
        if not (self.encoders >= 1 and 0 < self.load <= 1 and all(rate > 0 for rate in rates)):
            raise ConfigError(
                "a fog needs at least one encoder, rates and a disk above 0, and a load above 0 up to 1; "
                f"it has {self}"
            )


@dataclass(frozen=True, slots=True)
class Need:
    """One resource.

    Attributes:
        name: What it is, in words.
        cameras: Cameras that one fog's can carry; infinity for any number.
        fogs: Fogs that it asks for.
        used: Share of it that the busiest fog uses, when there are as many fogs as the scarcest asks for.
    """

    name: str
    cameras: float
    fogs: int
    used: float


@dataclass(frozen=True, slots=True)
class Sizing:
    """The answer.

    Attributes:
        cameras: As asked.
        fogs: Fog nodes.
        binds: The resource that asks for so many; empty when any number of cameras would do.
        busiest: Cameras of the busiest fog, about.
        encoders: Encoders of all fogs together.
        encoders_busy: Of these, at work on average at the peak.
        uplink_bytes_per_s, downlink_bytes_per_s: Of the busiest fog, at the peak.
        disk_bytes_per_day: Of the busiest fog.
        disk_bytes: Of the busiest fog, at the end of retention.
        needs: Every resource.
    """

    cameras: int
    fogs: int
    binds: str
    busiest: float
    encoders: int
    encoders_busy: float
    uplink_bytes_per_s: float
    downlink_bytes_per_s: float
    disk_bytes_per_day: float
    disk_bytes: float
    needs: tuple[Need, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values; None for a resource that carries any number of cameras."""
        needs = [
            {**asdict(need), "cameras": need.cameras if math.isfinite(need.cameras) else None}
            for need in self.needs
        ]
        return {**asdict(self), "needs": needs, "sentence": self.sentence}

    @property
    def sentence(self) -> str:
        """The answer for people."""
        nodes = "1 fog node" if self.fogs == 1 else f"{self.fogs:,} fog nodes"
        most = max(self.needs, key=lambda need: need.used)
        if not self.binds:
            return f"{nodes} for {self.cameras:,} cameras"
        if self.fogs == 1:
            return f"{nodes} for {self.cameras:,} cameras; {most.name} is used most, {most.used:.1%}"
        return f"{nodes} for {self.cameras:,} cameras: {self.binds} asks for so many"


def busiest_share(cameras: int, fogs: int) -> float:
    """Cameras of the busiest of so many equal fogs, about, when keys decide: the largest binomial share."""
    mean = cameras / fogs
    if fogs == 1:
        return mean
    return min(float(cameras), mean + math.sqrt(2 * mean * (1 - 1 / fogs) * math.log(fogs)))


def size(cameras: int, footprint: Footprint, fog: FogCapacity) -> Sizing:
    """The fogs that so many cameras need.

    Args:
        cameras: At least 1.
        footprint: What one makes.
        fog: What one fog can do.

    Raises:
        ConfigError: There are no cameras, or one is too much for a fog.
    """
    if cameras < 1:
        raise ConfigError(f"{cameras} cameras need no fog; give at least 1")
    peak = footprint.frames_per_s * footprint.peak
    each = {
        "encoding": fog.encoders * fog.load / _least(peak * fog.encode_s),
        "the daemon": fog.load
        / _least(peak * (fog.io_s_per_upload + footprint.receivers * fog.io_s_per_record)),
        "the disk's writing": fog.load / _least(peak * fog.disk_s),
        "the uplink": fog.uplink_bytes_per_s * fog.load / _least(peak * footprint.jpeg_bytes),
        "the downlink": fog.downlink_bytes_per_s
        * fog.load
        / _least(peak * footprint.receivers * footprint.packet_bytes),
        "the disk": fog.disk_bytes
        / _least(footprint.frames_per_s * DAY_S * fog.retention_days * footprint.stored_bytes),
    }
    counts = {name: _fogs(cameras, carried, name) for name, carried in each.items()}
    fogs = max(counts.values())
    busiest = busiest_share(cameras, fogs)
    needs = tuple(
        Need(name, carried, counts[name], (1.0 if name == "the disk" else fog.load) * busiest / carried)
        for name, carried in each.items()
    )
    per_day = busiest * footprint.frames_per_s * DAY_S * footprint.stored_bytes
    return Sizing(
        cameras=cameras,
        fogs=fogs,
        binds=min(each, key=each.__getitem__) if math.isfinite(min(each.values())) else "",
        busiest=busiest,
        encoders=fogs * fog.encoders,
        encoders_busy=cameras * peak * fog.encode_s,
        uplink_bytes_per_s=busiest * peak * footprint.jpeg_bytes,
        downlink_bytes_per_s=busiest * peak * footprint.receivers * footprint.packet_bytes,
        disk_bytes_per_day=per_day,
        disk_bytes=per_day * fog.retention_days,
        needs=needs,
    )


def _least(value: float) -> float:
    """So small that what costs nothing never binds."""
    return value if value > 0 else 5e-324


def _fogs(cameras: int, carried: float, name: str) -> int:
    """Fewest fogs of which the busiest has no more cameras than one carries."""
    if carried < 1:
        raise ConfigError(
            f"one camera is more than a fog can carry: {name} is enough for {carried:.3g}; record fewer "
            "frames, or give the fog more of it"
        )
    if cameras <= carried:
        return 1
    low, high = 1, 2
    while busiest_share(cameras, high) > carried:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        if busiest_share(cameras, middle) <= carried:
            high = middle
        else:
            low = middle
    return high
