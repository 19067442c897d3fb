"""Frames of a real run, in place of drawn ones."""

from __future__ import annotations

import csv
import json
import math
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from common.errors import ConfigError, reason

__all__ = ["Replay", "Replayed", "read_replay"]

MOST_BYTES = 1 << 30
"""Largest CSV that is read."""

COLUMNS = ("device", "jpeg_bytes", "packet_bytes", "encode_seconds")

QUERY = """
SELECT frames.device, frames.size, log.size, log.meta FROM frames
JOIN log ON log.device = frames.device AND log.epoch = frames.epoch AND log.number = frames.number
WHERE log.kind = 'packet' ORDER BY frames.arrival
"""
"""Encoded frames of a fog's store in order of their commit (common/store/README.md)."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """One frame of a real run.

    Attributes:
        seconds: When it was recorded, from the run's beginning; None where the run did not tell.
        jpeg_bytes, packet_bytes: Of the image and of its packet.
        encode_s: Seconds of encoding it.
    """

    seconds: float | None
    jpeg_bytes: int
    packet_bytes: int
    encode_s: float


@dataclass(frozen=True, slots=True)
class Replay:
    """Frames of each device of a real run.

    Attributes:
        source: Where they are from, in words.
        devices: Frames by device, in order of recording.
    """

    source: str
    devices: tuple[tuple[Replayed, ...], ...]

    def recordings(self, number: int) -> Iterator[tuple[int, int, float]]:
        """Frames of a simulated device, for ever; beyond the run's devices its first is used again."""
        return _again(self._of(number))

    def moments(self, number: int) -> list[float]:
        """When a simulated device records, seconds.

        Raises:
            ConfigError: The run does not tell.
        """
        moments = [frame.seconds for frame in self._of(number)]
        known = [seconds for seconds in moments if seconds is not None]
        if len(known) < len(moments):
            raise ConfigError(
                f"{self.source} does not say when frames were recorded; name a CSV with a column seconds, or "
                "set replay.arrivals to false"
            )
        return known

    def _of(self, number: int) -> tuple[Replayed, ...]:
        return self.devices[number % len(self.devices)]


def _again(frames: tuple[Replayed, ...]) -> Iterator[tuple[int, int, float]]:
    while True:
        for frame in frames:
            yield frame.jpeg_bytes, frame.packet_bytes, frame.encode_s


def read_replay(path: Path) -> Replay:
    """Read a fog's store, the folder of a loopback run, or a CSV.

    The CSV has the columns device,jpeg_bytes,packet_bytes,encode_seconds and, for moments, seconds.

    Raises:
        ConfigError: There is no such run, or it holds no encoded frame.
    """
    for store in (path / "store.sqlite3", path / "nodes" / "fog" / "store" / "store.sqlite3"):
        if store.is_file():
            return _of_rows(f"the store {store}", _store_rows(store))
    if path.is_dir():
        raise ConfigError(
            f"the replay {path} is a folder without a fog's store; name the fog's store folder, the "
            "--out folder "
            "of simulate loopback, or a CSV"
        )
    return _of_rows(f"the run in {path.name}", _csv_rows(path))


def _of_rows(source: str, rows: Iterator[tuple[str, Replayed]]) -> Replay:
    devices: dict[str, list[Replayed]] = {}
    for device, frame in rows:
        devices.setdefault(device, []).append(frame)
    if not devices:
        raise ConfigError(
            f"the replay of {source} holds no encoded frame; run it until packets are in the log"
        )
    for frames in devices.values():
        moments = [frame.seconds for frame in frames if frame.seconds is not None]
        if moments != sorted(moments):
            raise ConfigError(
                f"the replay of {source} has frames of a device out of order; sort them by seconds"
            )
    return Replay(source, tuple(tuple(frames) for frames in devices.values()))


def _store_rows(path: Path) -> Iterator[tuple[str, Replayed]]:
    try:
        # Without a write-ahead log nobody has the store open, and reading it so leaves no files beside it.
        logged = path.with_name(f"{path.name}-wal").exists()
        mode = "mode=ro" if logged else "immutable=1"
        connection = sqlite3.connect(f"{path.resolve().as_uri()}?{mode}", uri=True)
        try:
            for device, jpeg, packet, meta in connection.execute(QUERY):
                facts = json.loads(meta)
                yield device, Replayed(None, int(jpeg), int(packet), float(facts.get("encode_seconds", 0.0)))
        finally:
            connection.close()
    except (sqlite3.Error, ValueError, TypeError) as error:
        raise ConfigError(f"cannot read the fog's store {path} for a replay: {reason(error)}") from error


def _csv_rows(path: Path) -> Iterator[tuple[str, Replayed]]:
    try:
        if path.exists() and not path.is_file():
            # A device or a pipe may never end.
            raise ConfigError(f"the replay {path} is no file; name a CSV or a fog's store folder")
        if path.stat().st_size > MOST_BYTES:
            raise ConfigError(f"the replay {path} is above {MOST_BYTES >> 30} GiB; cut it")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot read the replay {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"the replay {path} is no UTF-8 text; save it as CSV") from error
    reader = csv.DictReader(text.splitlines())
    missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
    if missing:
        raise ConfigError(f"the replay {path} lacks the column {missing[0]!r}; it needs {','.join(COLUMNS)}")
    for line, row in enumerate(reader, start=2):
        values = []
        for name in (*COLUMNS[1:], "seconds"):
            if name == "seconds" and "seconds" not in row:
                continue
            try:
                value = float(row[name])
            except (TypeError, ValueError):
                value = math.nan
            if not 0 <= value < math.inf:
                raise ConfigError(
                    f"the replay {path} line {line} has {row[name]!r} as {name}; it needs a number of "
                    "at least 0"
                )
            values.append(value)
        seconds = values[3] if len(values) > 3 else None
        yield row["device"], Replayed(seconds, int(values[0]), int(values[1]), values[2])
