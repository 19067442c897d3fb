"""Fields of a packet, read in order: every length is checked against what is left before it is used."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from common.errors import PacketFormatError

__all__ = ["LARGEST_REAL", "FieldReader", "text_bytes", "varint_bytes"]

MAX_VARINT_BYTES = 5
LARGEST_REAL = float(1 << 20)
"""Of steps, frequency factors and scales: products with 16-bit integers stay far below what overflows."""


@dataclass(slots=True)
class FieldReader:
    """Reads ``data[at:end]`` field by field; what is malformed raises PacketFormatError."""

    data: bytes
    at: int
    end: int

    @classmethod
    def over(cls, data: bytes) -> FieldReader:
        """A reader of all of ``data``."""
        return cls(data, 0, len(data))

    @property
    def left(self) -> int:
        """Bytes not yet read."""
        return self.end - self.at

    def take(self, count: int) -> bytes:
        """The next ``count`` bytes."""
        if count > self.left:
            raise PacketFormatError(f"the packet ends {count - self.left} bytes early")
        self.at += count
        return self.data[self.at - count : self.at]

    def rest(self) -> bytes:
        """All bytes that are left."""
        return self.take(self.left)

    def unpack(self, form: str) -> tuple[int, ...]:
        """Integers by a :mod:`struct` format, little-endian."""
        values: tuple[int, ...] = struct.unpack("<" + form, self.take(struct.calcsize("<" + form)))
        return values

    def number(self, form: str) -> int:
        """One integer by a :mod:`struct` format, little-endian."""
        return self.unpack(form)[0]

    def varint(self) -> int:
        """An unsigned integer below 2^32: seven bits a byte, low ones first, the shortest form only."""
        value = 0
        for place in range(MAX_VARINT_BYTES):
            byte = self.number("B")
            value |= (byte & 0x7F) << 7 * place
            if byte < 0x80:
                if value >= 1 << 32 or (place and not byte):
                    break
                return value
        raise PacketFormatError("a number is longer than it may be")

    def real(self, what: str) -> float:
        """A binary32 number from 0 to :data:`LARGEST_REAL`."""
        value = float(struct.unpack("<f", self.take(4))[0])
        if not 0 <= value <= LARGEST_REAL:  # or no number
            raise PacketFormatError(f"{what} is {value}, not a finite number from 0 to {LARGEST_REAL:.0f}")
        return value

    def text(self, what: str) -> str:
        """Printable UTF-8 of 1 to 255 bytes."""
        raw = self.take(self.number("B"))
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise PacketFormatError(f"{what} is not UTF-8") from error
        if not text or not text.isprintable():
            raise PacketFormatError(f"{what} is empty or holds unprintable characters")
        return text

    def finish(self, what: str) -> None:
        """Refuse bytes after the end of ``what``."""
        if self.left:
            raise PacketFormatError(f"{self.left} bytes follow the end of {what}")


def varint_bytes(value: int) -> bytes:
    """``value`` (0 .. 2^32 - 1) as :meth:`FieldReader.varint` reads it."""
    if not 0 <= value < 1 << 32:
        raise PacketFormatError(f"{value} is no number from 0 to 2^32 - 1")
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def text_bytes(text: str) -> bytes:
    """``text`` as :meth:`FieldReader.text` reads it; struct.error above 255 bytes."""
    raw = text.encode("utf-8")
    return struct.pack("<B", len(raw)) + raw
