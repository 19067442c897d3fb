"""Grids <-> bytes: a range coder under the distributions that the shared model selects."""

from __future__ import annotations

from typing import TYPE_CHECKING

import constriction
import numpy as np
import numpy.typing as npt

from common.errors import PacketFormatError
from common.pyramid.contexts import PASSES, GridContext, band_features, magnitudes
from common.pyramid.grids import Grids, Integers, grid_order
from common.pyramid.model import ESCAPE, LOW_CLASSES, LOW_CONTEXTS, STATES, PyramidModel

__all__ = ["decode_grids", "encode_grids", "grid_states", "low_errors"]

MAX_MAGNITUDE = (1 << 20) - 1
_WORD = 4

if TYPE_CHECKING:
    from constriction.stream.model import Categorical

Uniform = constriction.stream.model.Uniform
States = npt.NDArray[np.uint8]


def encode_grids(grids: Grids, model: PyramidModel, step: float, residual: bool) -> bytes:
    """Bytes of ``grids``; :func:`decode_grids` gives them back.

    Raises:
        PacketFormatError: An integer is out of bounds.
    """
    largest = max((int(np.abs(g).max()) for g in (grids.low, *sum(grids.details, ())) if g.size), default=0)
    if largest > MAX_MAGNITUDE:
        raise PacketFormatError(f"an integer of {largest} is above {MAX_MAGNITUDE}: the step is too small")
    sink = _Sink(constriction.stream.queue.RangeEncoder())
    _code_low(sink, model, grids.low)
    _code_details(sink, model, grids, step, residual)
    words: npt.NDArray[np.uint32] = sink.coder.get_compressed().astype("<u4")
    # Words that are missing at the end are read as zeros.
    return words.tobytes().rstrip(b"\0")


def decode_grids(
    data: bytes, height: int, width: int, model: PyramidModel, step: float, residual: bool
) -> Grids:
    """The grids of a region of this size.

    Raises:
        PacketFormatError: The bytes are no such grids.
    """
    grids = Grids.zeros(height, width)
    words = np.frombuffer(data + bytes(-len(data) % _WORD), "<u4").astype(np.uint32)
    source = _Source(constriction.stream.queue.RangeDecoder(words))
    try:
        _code_low(source, model, grids.low)
        _code_details(source, model, grids, step, residual)
    except AssertionError as error:  # how the range coder says that no symbol fits
        raise PacketFormatError("a pyramid's coded integers are damaged") from error
    return grids


def grid_states(
    grids: Grids, model: PyramidModel, step: float, residual: bool
) -> dict[tuple[int, int, int], States]:
    """The distribution under which each integer is coded, for every grid that is not empty.

    Returns:
        By level, colour and orientation: numbers of states, of the grid's shape.
    """
    features = [[magnitudes(grid) for grid in level] for level in grids.details]
    found = {}
    for level, colour, orientation in grid_order(len(features)):
        plane = features[level][orientation][colour]
        if not plane.any():
            continue
        context = GridContext.of(features, level, colour, orientation)
        shared = band_features(level, residual, step)
        states = np.empty(plane.shape, np.uint8)
        for number, (row, column) in enumerate(PASSES):
            states[row::2, column::2] = _pass_states(context, model, orientation, colour, number, shared)
            context.learn(number, plane[row::2, column::2])
        found[level, colour, orientation] = states
    return found


class _Sink:
    """Writes what a :class:`_Source` reads."""

    def __init__(self, coder: constriction.stream.queue.RangeEncoder) -> None:
        self.coder = coder

    def symbols(self, values: Integers, model: Categorical) -> Integers:
        if len(values):
            self.coder.encode(np.ascontiguousarray(values, np.int32), model)
        return values

    def raw(self, values: Integers, count: int) -> Integers:
        """Numbers below ``count``, each as likely."""
        if len(values) and count > 1:
            self.coder.encode(np.ascontiguousarray(values, np.int32), Uniform(count))
        return values


class _Source:
    """Reads numbers; the values that are passed are not looked at, only how many there are."""

    def __init__(self, coder: constriction.stream.queue.RangeDecoder) -> None:
        self.coder = coder

    def symbols(self, values: Integers, model: Categorical) -> Integers:
        return np.asarray(self.coder.decode(model, len(values)), np.int32) if len(values) else values

    def raw(self, values: Integers, count: int) -> Integers:
        if not len(values) or count <= 1:
            return np.zeros(len(values), np.int32)
        return np.asarray(self.coder.decode(Uniform(count), len(values)), np.int32)


Coder = _Sink | _Source


def _code_details(coder: Coder, model: PyramidModel, grids: Grids, step: float, residual: bool) -> None:
    """Code, or fill in, all detail grids of ``grids``: magnitudes first, then their signs."""
    # Filled as the grids are coded.
    features = [[np.zeros(grid.shape, np.uint8) for grid in level] for level in grids.details]
    for level, colour, orientation in grid_order(len(features)):
        grid = grids.details[level][orientation][colour]
        if not grid.size:
            continue
        flag = np.array([grid.any()], np.int32)
        if not coder.symbols(flag, model.empty[residual, level, colour, orientation])[0]:
            continue
        context = GridContext.of(features, level, colour, orientation)
        shared = band_features(level, residual, step)
        for number, (row, column) in enumerate(PASSES):
            part = grid[row::2, column::2]
            if not part.size:
                continue
            states = _pass_states(context, model, orientation, colour, number, shared)
            sizes = _code_magnitudes(coder, model, np.abs(part).reshape(-1), states.reshape(-1))
            places = np.nonzero(sizes)[0]
            negative = coder.raw((part.reshape(-1)[places] < 0).astype(np.int32), 2)
            sizes[places] *= 1 - 2 * negative
            grid[row::2, column::2] = sizes.reshape(part.shape)
            seen = magnitudes(grid[row::2, column::2])
            context.learn(number, seen)
            features[level][orientation][colour][row::2, column::2] = seen


def _pass_states(
    context: GridContext,
    model: PyramidModel,
    orientation: int,
    colour: int,
    number: int,
    shared: npt.NDArray[np.float32],
) -> States:
    busy, inputs = context.inputs(number)
    selected = model.states(orientation, colour, number, inputs, shared)
    states = np.full(busy.shape, selected[0])
    states[busy] = selected[1:]
    return states


def _code_magnitudes(coder: Coder, model: PyramidModel, values: Integers, states: States) -> Integers:
    """Magnitudes (N,) under ``states`` (N,), state by state."""
    order = np.argsort(states, kind="stable")
    counts = np.bincount(states, minlength=STATES)
    symbols = np.minimum(values[order], ESCAPE)
    begin = 0
    for state in np.flatnonzero(counts).tolist():
        end = begin + int(counts[state])
        symbols[begin:end] = coder.symbols(symbols[begin:end], model.symbols[state])
        begin = end
    out = np.empty(len(values), np.int32)
    out[order] = symbols
    large = np.nonzero(out == ESCAPE)[0]
    if len(large):
        out[large] += _code_exp_golomb(coder, values[large] - ESCAPE)
    return out


def _code_exp_golomb(coder: Coder, values: Integers) -> Integers:
    """Numbers (N,) from 0 to MAX_MAGNITUDE - ESCAPE: all lengths first, bit by bit, then the rest."""
    wanted = np.maximum(values, 0) + 1
    lengths = np.zeros(len(values), np.int32)
    longer = np.arange(len(values))
    for length in range(1, MAX_MAGNITUDE.bit_length()):
        longer = longer[coder.raw((wanted[longer] >> length > 0).astype(np.int32), 2) > 0]
        if not len(longer):
            break
        lengths[longer] = length
    out = np.zeros(len(values), np.int32)
    for length in np.unique(lengths).tolist():
        places = np.nonzero(lengths == length)[0]
        first = 1 << length
        out[places] = first - 1 + coder.raw((wanted[places] - first).astype(np.int32), first)
    if out.max() > MAX_MAGNITUDE - ESCAPE:
        raise PacketFormatError("an integer of a pyramid is out of bounds")
    return out


def low_errors(low: Integers) -> list[tuple[int, int]]:
    """Context and bit length of every prediction error in a coarsest picture, in the order of coding."""
    found: list[tuple[int, int]] = []
    for plane in low:
        lengths = np.zeros(plane.shape, int)
        for y, x in np.ndindex(plane.shape):
            lengths[y, x] = abs(int(plane[y, x]) - _predict(plane, y, x)).bit_length()
            found.append((_low_context(lengths, y, x), int(lengths[y, x])))
    return found


def _code_low(coder: Coder, model: PyramidModel, low: Integers) -> None:
    """Code, or fill in, the coarsest picture: errors of a prediction from the left and upper neighbours."""
    for plane in low:
        lengths = np.zeros(plane.shape, int)
        for y, x in np.ndindex(plane.shape):
            predicted = _predict(plane, y, x)
            error = int(plane[y, x]) - predicted
            symbol = _one(min(abs(error).bit_length(), LOW_CLASSES - 1))
            length = int(coder.symbols(symbol, model.low[_low_context(lengths, y, x)])[0])
            size = 0
            if length:
                half = 1 << (length - 1)
                size = half + int(coder.raw(_one(abs(error) - half), half)[0])
                size *= -1 if coder.raw(_one(error < 0), 2)[0] else 1
            if abs(predicted + size) > MAX_MAGNITUDE:
                raise PacketFormatError("a pyramid's coarsest picture is out of bounds")
            plane[y, x] = predicted + size
            lengths[y, x] = length


def _low_context(lengths: npt.NDArray[np.int_], y: int, x: int) -> int:
    """0 without neighbours; else 1 + the mean bit length of the left and the upper one, at most 10."""
    near = [int(lengths[y, x - 1])] if x else []
    near += [int(lengths[y - 1, x])] if y else []
    return min(sum(near) // len(near), LOW_CONTEXTS - 2) + 1 if near else 0


def _predict(plane: Integers, y: int, x: int) -> int:
    """The median edge detector of LOCO-I (Weinberger et al., 2000)."""
    if not x and not y:
        return 0
    if not x or not y:
        return int(plane[y, x - 1] if x else plane[y - 1, x])
    left, up, corner = int(plane[y, x - 1]), int(plane[y - 1, x]), int(plane[y - 1, x - 1])
    return sorted((left, up, left + up - corner))[1]


def _one(value: int) -> Integers:
    return np.array([value], np.int32)
