"""Measured packet sizes of a profile, and draws from them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pydantic
from pydantic import Field, model_validator

from common.config import Settings
from common.errors import ConfigError
from simulations.events.scenario import CodecSettings, GroupSettings

__all__ = ["SHIPPED_TABLES", "SizeRow", "SizeTable", "Sizes", "draw_sizes", "load_table", "sizes_of"]

SHIPPED_TABLES = Path(__file__).parent.parent / "tables"
"""Tables of the profiles, <profile>.json."""

DRAWS = 32
"""Frames drawn at a time."""


class SizeRow(Settings):
    """What a profile needs to bring frames to one target; lists have one value a frame, in the same order."""

    target: tuple[float, float] = Field(description="background and object PSNR, dB")
    jpeg_bytes: tuple[int, ...] = Field(min_length=1, description="bytes of the frames as recorded")
    packet_bytes: tuple[int, ...] = Field(min_length=1, description="bytes of their packets")
    encode_s: tuple[float, ...] = Field(min_length=1, description="seconds of encoding each of them")

    @model_validator(mode="after")
    def _equal_lengths(self) -> SizeRow:
        if not len(self.jpeg_bytes) == len(self.packet_bytes) == len(self.encode_s):
            raise ValueError("jpeg_bytes, packet_bytes and encode_s must have one value a frame each")
        if min(self.jpeg_bytes) <= 0 or min(self.packet_bytes) < 0 or not min(self.encode_s) >= 0:
            raise ValueError("bytes of JPEG must be above 0, packet_bytes and encode_s at least 0")
        return self

    @property
    def alpha(self) -> float:
        """Packet bytes / JPEG bytes over all frames."""
        return sum(self.packet_bytes) / sum(self.jpeg_bytes)


class SizeTable(Settings):
    """A file of measured sizes."""

    profile: str = Field(min_length=1, max_length=100, description="profile of the encoder")
    source: str = Field(
        min_length=1, max_length=4000, description="which frames were encoded, and by which command"
    )
    machine: str = Field(min_length=1, max_length=400, description="where encoding was timed")
    rows: tuple[SizeRow, ...] = Field(min_length=1, max_length=100, description="one row a target")

    def row(self, target: str | None) -> SizeRow:
        """The row of a target such as "28,33"; the first when none is named.

        Raises:
            ConfigError: There is no such row.
        """
        if target is None:
            return self.rows[0]
        known = {",".join(f"{value:g}" for value in row.target): row for row in self.rows}
        found = known.get(target.replace(" ", ""))
        if found is None:
            raise ConfigError(
                f"the table of profile {self.profile} has no target {target!r}; its targets are "
                f"{' and '.join(known)}"
            )
        return found


class Sizes:
    """What encoding makes of a frame: equally likely outcomes.

    Attributes:
        ratios: Packet bytes / JPEG bytes, (N,) float64.
        seconds: Seconds of encoding, at this deployment's speed, (N,) float64.
        source: Where the figures come from, for the summary.
    """

    def __init__(self, ratios: np.ndarray, seconds: np.ndarray, source: str) -> None:
        self.ratios = ratios
        self.seconds = seconds
        self.source = source


def load_table(name: str, folder: Path) -> SizeTable:
    """Read a table: a shipped profile by its name, or a file relative to ``folder``.

    Raises:
        ConfigError: There is no such table, or it is malformed.
    """
    shipped = SHIPPED_TABLES / f"{name}.json"
    path = Path(name).expanduser()
    path = path if path.is_absolute() else folder / path
    if "/" not in name and not path.is_file():
        if not shipped.is_file():
            known = ", ".join(sorted(file.stem for file in SHIPPED_TABLES.glob("*.json")))
            raise ConfigError(f"there is no size table {name!r}; name a JSON file or one of {known}")
        path = shipped
    if path.exists() and not path.is_file():
        raise ConfigError(f"the size table {path} is no file; name a JSON file")
    try:
        return SizeTable.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ConfigError(f"cannot read the size table {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"the size table {path} is no UTF-8 text; name a JSON file") from error
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ConfigError(
            f"the size table {path} is malformed at {place or 'its top'}: {first['msg']}"
        ) from error
    except ValueError as error:
        raise ConfigError(f"the size table {path} is no JSON: {error}") from error


def sizes_of(codec: CodecSettings, folder: Path) -> Sizes:
    """The outcomes that a scenario's codec settings describe.

    Raises:
        ConfigError: Its table cannot be used.
    """
    if codec.table is None or (codec.alpha is not None and codec.encode_s is not None):
        ratios, seconds, source = np.zeros(1), np.zeros(1), "alpha and encode_s of the scenario"
    else:
        table = load_table(codec.table, folder)
        row = table.row(codec.target)
        jpeg = np.array(row.jpeg_bytes, np.float64)
        ratios, seconds = np.array(row.packet_bytes) / jpeg, np.array(row.encode_s, np.float64)
        source = f"{table.profile}: {table.source} ({table.machine})"
    if codec.alpha is not None:
        ratios = np.full_like(ratios, codec.alpha)
    if codec.encode_s is not None:
        seconds = np.full_like(seconds, codec.encode_s)
    return Sizes(ratios, seconds / codec.encode_speed, source)


def draw_sizes(
    group: GroupSettings, sizes: Sizes, generator: np.random.Generator
) -> Iterator[tuple[int, int, float]]:
    """(JPEG bytes, packet bytes, seconds of encoding) of one device's frames, for ever."""
    spread = group.jpeg_spread
    deviation = math.sqrt(math.log1p(spread * spread))
    # Of this location the mean is jpeg_bytes.
    location = math.log(group.jpeg_bytes) - deviation * deviation / 2
    while True:
        if spread:
            jpeg = np.maximum(1, np.rint(np.exp(generator.normal(location, deviation, DRAWS))))
        else:
            jpeg = np.full(DRAWS, max(1.0, round(group.jpeg_bytes)))
        drawn = generator.integers(0, len(sizes.ratios), DRAWS)
        packets = np.rint(jpeg * sizes.ratios[drawn])
        yield from zip(
            jpeg.astype(np.int64).tolist(),
            packets.astype(np.int64).tolist(),
            sizes.seconds[drawn].tolist(),
            strict=True,
        )
