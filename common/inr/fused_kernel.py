"""The fused decode kernel: coordinates, sine layers, residuals and rounding of a tile of pixels at once.

A program decodes ROWS x COLUMNS output pixels of one piece: its background, and those of its objects that own
a pixel there. Activations stay in registers; weights go through shared memory. Networks are padded with zeros
to BODY + TAIL neurons (powers of two, as tensor cores want them; TAIL may be 0), which changes no sum, and
their depths may differ.

Angles are counted in half turns, so that the sine reduces its argument exactly: weights and biases of sine
layers come multiplied by w0 / pi. Importing this module needs triton; :mod:`common.inr.fused` decides.
"""

from __future__ import annotations

import triton
import triton.language as tl

__all__ = ["CHANNELS", "COLUMNS", "INTEGERS", "REALS", "ROWS", "decode_tiles"]

ROWS = tl.constexpr(8)
COLUMNS = tl.constexpr(8)
"""Pixels of a tile: 64, the least rows of a Hopper tensor core's product; more would spill registers."""
CHANNELS = tl.constexpr(16)
"""Outputs of a network, padded from 3: the least that a tensor core takes."""
INTEGERS = tl.constexpr(8)
"""Integers of a piece: image, window top, left, height, width, network, first object, number of objects."""
REALS = tl.constexpr(16)
"""Reals of a piece: map (9, row by row), clip x0, y0, x1, y1, coded width, coded height, one unused."""
BOX_REALS = tl.constexpr(4)
"""Reals of an object: its region x0, y0, x1, y1, coded pixels."""
EDGE = tl.constexpr(1e-6)
HORIZON = tl.constexpr(1e-6)
"""As in :mod:`common.inr.sampling`."""
ROUNDER = tl.constexpr(12582912.0)
"""1.5 * 2^23: adding it to a float32 leaves no place for a fraction, so it rounds, ties to even."""
# sin(pi x) on [-1/2, 1/2] as an odd polynomial of least largest error: 3.3e-9, below a rounding.
S1 = tl.constexpr(3.1415925800446507)
S3 = tl.constexpr(-5.167706878921428)
S5 = tl.constexpr(2.550031377195185)
S7 = tl.constexpr(-0.5980451735937306)
S9 = tl.constexpr(0.07722012788383098)


@triton.jit
def _sine(half_turns: tl.tensor) -> tl.tensor:
    """sin(pi x) of float32 x, |x| < 2^22."""
    shifted = half_turns + ROUNDER
    rest = half_turns - (shifted - ROUNDER)
    # The lowest bit of the sum says whether the whole part is odd: then the sine changes its sign.
    sign = shifted.to(tl.int32, bitcast=True) << 31
    square = rest * rest
    series = S9 * square + S7
    series = series * square + S5
    series = series * square + S3
    series = series * square + S1
    return ((series * rest).to(tl.int32, bitcast=True) ^ sign).to(tl.float32, bitcast=True)


@triton.jit
def _enter(
    x: tl.tensor, y: tl.tensor, weights: tl.tensor, biases: tl.tensor, neurons: tl.tensor, width: tl.constexpr
) -> tl.tensor:
    """First sine layer of some neurons: (PIXELS, neurons). Plain products: the angle must be exact."""
    across = tl.load(weights + neurons)[None, :]
    down = tl.load(weights + width + neurons)[None, :]
    return _sine(x[:, None] * across + (y[:, None] * down + tl.load(biases + neurons)[None, :]))


@triton.jit
def _product(
    h: tl.tensor,
    sums: tl.tensor,
    weights: tl.tensor,
    ins: tl.tensor,
    outs: tl.tensor,
    width: tl.constexpr,
    products: tl.constexpr,
) -> tl.tensor:
    """``sums`` + h W' for the block ``outs`` x ``ins`` of W, which lies row by row."""
    block = tl.load(weights + outs[None, :] * width + ins[:, None])
    return tl.dot(h, block, acc=sums, input_precision=products)


@triton.jit
def _network(
    x: tl.tensor,
    y: tl.tensor,
    row: tl.tensor,
    depths: tl.tensor,
    first: tl.tensor,
    inner: tl.tensor,
    biases: tl.tensor,
    last: tl.tensor,
    ends: tl.tensor,
    layers: tl.constexpr,
    body: tl.constexpr,
    tail: tl.constexpr,
    pixels: tl.constexpr,
    products: tl.constexpr,
) -> tl.tensor:
    """Outputs (PIXELS, CHANNELS) of network ``row`` at network coordinates x, y (PIXELS,)."""
    width: tl.constexpr = body + tail
    depth = tl.load(depths + row)
    row = row.to(tl.int64)
    first += row * (2 * width)
    inner += row * ((layers - 1) * width * width)
    biases += row * (layers * width)
    last += row * (CHANNELS * width)
    of_body = tl.arange(0, body)
    channels = tl.arange(0, CHANNELS)
    h = _enter(x, y, first, biases, of_body, width)
    none = tl.zeros((pixels, body), tl.float32)
    if tail > 0:
        of_tail = body + tl.arange(0, tail)
        t = _enter(x, y, first, biases, of_tail, width)
        none_tail = tl.zeros((pixels, tail), tl.float32)
    for layer in range(1, depth):
        weights = inner + (layer - 1) * (width * width)
        shift = biases + layer * width
        to_body = none + tl.load(shift + of_body)[None, :]
        to_body = _product(h, to_body, weights, of_body, of_body, width, products)
        if tail > 0:
            to_body = _product(t, to_body, weights, of_tail, of_body, width, products)
            to_tail = none_tail + tl.load(shift + of_tail)[None, :]
            to_tail = _product(h, to_tail, weights, of_body, of_tail, width, products)
            to_tail = _product(t, to_tail, weights, of_tail, of_tail, width, products)
            t = _sine(to_tail)
        h = _sine(to_body)
    out = tl.zeros((pixels, CHANNELS), tl.float32) + tl.load(ends + row * CHANNELS + channels)[None, :]
    out = _product(h, out, last, of_body, channels, width, products)
    if tail > 0:
        out = _product(t, out, last, of_tail, channels, width, products)
    return out


@triton.jit
def decode_tiles(
    out: tl.tensor,
    height: tl.tensor,
    width: tl.tensor,
    integers: tl.tensor,
    reals: tl.tensor,
    depths: tl.tensor,
    first: tl.tensor,
    inner: tl.tensor,
    biases: tl.tensor,
    last: tl.tensor,
    ends: tl.tensor,
    boxes: tl.tensor,
    box_scales: tl.tensor,
    box_rows: tl.tensor,
    box_depths: tl.tensor,
    box_first: tl.tensor,
    box_inner: tl.tensor,
    box_biases: tl.tensor,
    box_last: tl.tensor,
    box_ends: tl.tensor,
    layers: tl.constexpr,
    body: tl.constexpr,
    tail: tl.constexpr,
    box_layers: tl.constexpr,
    box_body: tl.constexpr,
    box_tail: tl.constexpr,
    bytes_out: tl.constexpr,
    products: tl.constexpr,
) -> None:
    """Decode tile ``program_id(0)`` of piece ``program_id(1)`` into ``out`` (images, 3, height, width).

    Args:
        out: uint8 grey levels when ``bytes_out``, else float32, not clamped. Only pixels that show the frame
            are written.
        height: Of an output image, pixels.
        width: Of an output image, pixels.
        integers: (pieces, INTEGERS) int32.
        reals: (pieces, REALS) float64.
        depths: (networks,) int32 sine layers of each background, at most ``layers``.
        first: (networks, 2, WIDTH) float32, first layer by input; WIDTH = body + tail.
        inner: (networks, layers - 1, WIDTH, WIDTH) float32, output by input.
        biases: (networks, layers, WIDTH) float32.
        last: (networks, CHANNELS, WIDTH) float32.
        ends: (networks, CHANNELS) float32.
        boxes: (objects, BOX_REALS) float64; by piece, those that own a pixel before others last.
        box_scales: (objects,) float32 residual scale.
        box_rows: (objects,) int32 network of each; its tables follow, as above.
        box_depths: See ``depths``.
        box_first: See ``first``.
        box_inner: See ``inner``.
        box_biases: See ``biases``.
        box_last: See ``last``.
        box_ends: See ``ends``.
        layers: Most sine layers of a background.
        body: Neurons of a layer, first part.
        tail: Neurons of a layer, second part; 0 for none.
        box_layers: As ``layers``, of the objects.
        box_body: As ``body``, of the objects; 0 when there is no object at all.
        box_tail: As ``tail``, of the objects.
        bytes_out: Type of ``out``.
        products: "tf32x3" or "ieee".
    """
    pixels: tl.constexpr = ROWS * COLUMNS
    integers += tl.program_id(1) * INTEGERS
    reals += tl.program_id(1) * REALS
    image, top, left = tl.load(integers), tl.load(integers + 1), tl.load(integers + 2)
    high, wide, row = tl.load(integers + 3), tl.load(integers + 4), tl.load(integers + 5)
    begin, count = tl.load(integers + 6), tl.load(integers + 7)
    across = (wide + COLUMNS - 1) // COLUMNS
    tile = tl.program_id(0)
    if tile * ROWS < ((high + ROWS - 1) // ROWS * ROWS) * across:
        place = tl.arange(0, pixels)
        dy = tile // across * ROWS + place // COLUMNS
        dx = tile % across * COLUMNS + place % COLUMNS
        u = (left + dx).to(tl.float64) + 0.5
        v = (top + dy).to(tl.float64) + 0.5
        x = tl.load(reals) * u + tl.load(reals + 1) * v + tl.load(reals + 2)
        y = tl.load(reals + 3) * u + tl.load(reals + 4) * v + tl.load(reals + 5)
        depth = tl.load(reals + 6) * u + tl.load(reals + 7) * v + tl.load(reals + 8)
        shown = (dy < high) & (dx < wide) & (depth > HORIZON)
        depth = tl.where(shown, depth, 1.0)
        x /= depth
        y /= depth
        shown &= (x >= tl.load(reals + 9) - EDGE) & (y >= tl.load(reals + 10) - EDGE)
        shown &= (x < tl.load(reals + 11) - EDGE) & (y < tl.load(reals + 12) - EDGE)
        if tl.max(shown.to(tl.int32), 0) > 0:
            nx = (x * (2 / tl.load(reals + 13)) - 1).to(tl.float32)
            ny = (y * (2 / tl.load(reals + 14)) - 1).to(tl.float32)
            colours = _network(
                nx, ny, row, depths, first, inner, biases, last, ends, layers, body, tail, pixels, products
            )
            colours = colours * 0.5 + 0.5
            if box_body > 0:
                owner = tl.full((pixels,), -1, tl.int32)
                for item in range(begin, begin + count):
                    box = boxes + item * BOX_REALS
                    inside = (x >= tl.load(box) - EDGE) & (y >= tl.load(box + 1) - EDGE)
                    inside &= (x < tl.load(box + 2) - EDGE) & (y < tl.load(box + 3) - EDGE)
                    owner = tl.where(shown & inside, item, owner)
                for item in range(begin, begin + count):
                    mine = owner == item
                    if tl.max(mine.to(tl.int32), 0) > 0:
                        box = boxes + item * BOX_REALS
                        x0, y0 = tl.load(box), tl.load(box + 1)
                        nx = ((x - x0) * (2 / (tl.load(box + 2) - x0)) - 1).to(tl.float32)
                        ny = ((y - y0) * (2 / (tl.load(box + 3) - y0)) - 1).to(tl.float32)
                        residual = _network(
                            nx,
                            ny,
                            tl.load(box_rows + item),
                            box_depths,
                            box_first,
                            box_inner,
                            box_biases,
                            box_last,
                            box_ends,
                            box_layers,
                            box_body,
                            box_tail,
                            pixels,
                            products,
                        )
                        residual *= tl.load(box_scales + item)
                        colours += tl.where(mine[:, None], residual, 0.0)
            channel = tl.arange(0, CHANNELS)
            plane = image.to(tl.int64) * 3 + channel
            target = (plane[None, :] * height + (top + dy)[:, None]) * width + (left + dx)[:, None]
            wanted = shown[:, None] & (channel < 3)[None, :]
            if bytes_out:
                # The larger and the smaller of NaN and a number is the number: NaN is black.
                greys = tl.minimum(tl.maximum(colours, 0.0), 1.0) * 255.0
                greys = (greys + ROUNDER) - ROUNDER
                tl.store(out + target, greys.to(tl.uint8), mask=wanted)
            else:
                tl.store(out + target, colours, mask=wanted)
