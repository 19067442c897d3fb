"""Seeded mutations of bytes: the same seed and number give the same input on every machine."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

__all__ = ["mutated"]

EDGES = (0, 1, 0x7F, 0x80, 0xFE, 0xFF)
WIDE_EDGES = (0, 1, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF)
NUMBERS = (
    b'-1', b'0', b'1e308', b'-1e-308', b'nan', b'inf', b'-inf', b'999999999999999999999999999999',
    b'0x10', b'1_0', b'null', b'~',
)  # fmt: skip
NUMBER = re.compile(rb"-?\d+(?:\.\d+)?")
TOKENS = (
    b'\xff\xd8', b'\xff\xd9', b'\xff\xda', b'\xff\xc2', b'\xff\xe1', b'\xff\xff', b'RINR', b'IHDR',
    b'IDAT', b'\x89PNG\r\n\x1a\n', b'RIFF', b'\xdd\xff\xff\xff\xff', b'\xdf\xff\xff\xff\xff',
    b'\xc6\xff\xff\xff\xff', b'\xdc\x04\x00', b'\x81\xa1a', b'\xc1', b'\xc7\x00\x01',
    b'\xcb\x7f\xf0\x00\x00\x00\x00\x00\x00', b'\xa1v', b'\xa1t', b'<object>', b'</object>',
    b"<!ENTITY a '&a;'>", b'&a;', b'<![CDATA[', b'- ', b': ', b'*a', b'&a ',
    b'!!python/object/apply:os.system ', b'{', b'}', b'[', b']', b'\n', b'\t', b',', b'"', b"'",
    b'\x00', b'\xef\xbb\xbf', b'\xed\xa0\x80', b'../', b'/dev/zero', b'frame,x0,y0,w,h\n',
)  # fmt: skip
"""What the parsers look for, and what has broken parsers before."""

MOST_BYTES = 200_000


def mutated(seeds: Sequence[bytes], seed: int, name: str, number: int) -> bytes:
    """Input ``number`` of the fuzzer ``name``.

    Args:
        seeds: The corpus.
        seed: Of the whole run.
        name: Of the target.
        number: From 0.
    """
    draw = random.Random(f"{seed}:{name}:{number}")
    data = bytearray(seeds[draw.randrange(len(seeds))])
    for _ in range(draw.choice((1, 1, 1, 2, 2, 3, 4, 6, 10))):
        _mutate(data, draw, seeds)
    return bytes(data[:MOST_BYTES])


def _mutate(data: bytearray, draw: random.Random, seeds: Sequence[bytes]) -> None:
    size = len(data)
    at = draw.randrange(size + 1)
    match draw.randrange(12):
        case 0 if at < size:
            data[at] ^= 1 << draw.randrange(8)
        case 1 if at < size:
            data[at] = draw.choice(EDGES)
        case 2 if at < size:
            data[at] = draw.randrange(256)
        case 3:
            width = draw.choice((2, 4, 8))
            value = draw.choice(WIDE_EDGES) % 256**width
            data[at : at + width] = value.to_bytes(width, draw.choice(("little", "big")))
        case 4:
            del data[at : at + 1 + draw.randrange(1 + draw.choice((1, 8, 64)))]
        case 5:
            part = data[at : at + 1 + draw.randrange(64)]
            data[at:at] = part * draw.choice((1, 1, 1, 2, 40))
        case 6:
            data[at:at] = draw.randbytes(1 + draw.randrange(12))
        case 7:
            other = seeds[draw.randrange(len(seeds))]
            start = draw.randrange(len(other) + 1)
            data[at:] = other[start:]
        case 8:
            token = draw.choice(TOKENS)
            data[at : at + draw.choice((0, len(token)))] = token
        case 9:
            del data[at:]
        case 10:
            found = list(NUMBER.finditer(data[:4096]))
            if found:
                place = draw.choice(found)
                data[place.start() : place.end()] = draw.choice(NUMBERS)
        case _ if size > 1:
            other_at = draw.randrange(size)
            length = 1 + draw.randrange(32)
            part, rest = data[at : at + length], data[other_at : other_at + length]
            data[at : at + length] = rest
            data[other_at : other_at + length] = part
