"""Entropy models of quantized weights: two-sided distributions of integers, the same on every machine.

A model is one byte. 0 says that all integers are zero; any other names a shape, p(k) ~ exp(-|k / b|^e) with
an exponent e of 1 (Laplace), 1.5 or 2 (Gaussian), and a scale b in steps of a quarter octave. Where b is 16
or more, the lowest bits are sent as they are and the model is that of what remains. Probabilities are made in
decimal arithmetic, which is rounded alike everywhere, and are integers before they reach the range coder.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Context, Decimal
from functools import lru_cache

import constriction
import numpy as np
import numpy.typing as npt

__all__ = ["MODEL_CODES", "IntegerModel", "best_model", "integer_model"]

Integers = npt.NDArray[np.int64]

EXPONENTS = (Decimal(1), Decimal("1.5"), Decimal(2))
REACH = (14, 8, 6)
"""Integers beyond this many scales (plus three) are outside a model: by then each costs 20 bits and more."""
SCALES = 80
"""Scales of each shape: b = 2^(index / 4 - 3), an eighth to 56,000."""
FIRST_OCTAVE, FINE_OCTAVE = -3, 3
MODEL_CODES = 1 + len(EXPONENTS) * SCALES
TOTAL = 1 << 20
"""Sum of the integer frequencies, about; each symbol has at least one."""
_CONTEXT = Context(prec=30)
_QUARTERS = tuple(Decimal(2) ** (Decimal(index) / 4) for index in range(4))


@dataclass(frozen=True, slots=True)
class IntegerModel:
    """What one model byte stands for.

    Attributes:
        shift: Low bits sent as they are.
        reach: Largest magnitude of what remains.
        frequencies: (2 * reach + 1,) int64, of -reach to reach.
        coder: The range coder's model of what remains, over 0 to 2 * reach.
    """

    shift: int
    reach: int
    frequencies: Integers
    coder: constriction.stream.model.Categorical

    def split(self, values: Integers) -> tuple[Integers, Integers]:
        """High parts (symbols from 0; outside 0..2 * reach where a value is out of range) and low bits."""
        shifted = values + ((1 << self.shift) >> 1)
        high = shifted >> self.shift
        return high + self.reach, shifted - (high << self.shift)

    def merge(self, high: Integers, low: Integers) -> Integers:
        """The values of :meth:`split`."""
        return ((high - self.reach) << self.shift) + low - ((1 << self.shift) >> 1)

    def bits(self, values: Integers) -> float:
        """Information content of ``values``, bits; infinite when one is out of range."""
        high, _ = self.split(values)
        if len(values) and not 0 <= high.min() <= high.max() <= 2 * self.reach:
            return math.inf
        counts = np.bincount(high, minlength=2 * self.reach + 1)
        cost = math.log2(self.frequencies.sum()) - np.log2(self.frequencies)
        return float(counts @ cost) + self.shift * len(values)


@lru_cache(maxsize=MODEL_CODES)
def integer_model(code: int) -> IntegerModel:
    """The model of ``code``, 1 to ``MODEL_CODES`` - 1."""
    shape, index = divmod(code - 1, SCALES)
    octave, quarter = divmod(index, 4)
    octave += FIRST_OCTAVE
    shift = max(0, octave - FINE_OCTAVE)
    scale = _CONTEXT.multiply(_QUARTERS[quarter], _CONTEXT.power(Decimal(2), Decimal(octave - shift)))
    reach = int(_CONTEXT.multiply(scale, Decimal(REACH[shape]))) + 3
    half = []
    for magnitude in range(reach + 1):
        ratio = _CONTEXT.divide(Decimal(magnitude), scale)
        power = _power(ratio, shape)
        half.append(_CONTEXT.exp(-power))
    total = half[0]
    for value in half[1:]:
        total = _CONTEXT.add(total, _CONTEXT.multiply(Decimal(2), value))
    unit = _CONTEXT.divide(Decimal(TOTAL), total)
    counts = [max(1, int(_CONTEXT.multiply(unit, value))) for value in half]
    frequencies = np.array(counts[:0:-1] + counts, np.int64)
    coder = constriction.stream.model.Categorical(frequencies / TOTAL, perfect=False)
    return IntegerModel(shift, reach, frequencies, coder)


def best_model(values: Integers) -> int:
    """Code of the model that sends ``values`` in the fewest bits."""
    peak = int(np.abs(values).max(initial=0))
    if peak == 0:
        return 0
    # The best scale lies near the mean magnitude; an outlier may ask for a larger one.
    index = round(4 * (math.log2(max(0.125, float(np.abs(values).mean()))) - FIRST_OCTAVE))
    best, best_bits = 0, math.inf
    for shape in range(len(EXPONENTS)):
        for near in range(max(0, index - 4), SCALES):
            if near > index + 5 and best:
                break
            code = 1 + shape * SCALES + near
            bits = integer_model(code).bits(values)
            if bits < best_bits:
                best, best_bits = code, bits
    return best


def _power(ratio: Decimal, shape: int) -> Decimal:
    """``ratio`` to the exponent of ``shape``, by operations that decimal arithmetic rounds exactly."""
    if shape == 0:
        return ratio
    square = _CONTEXT.multiply(ratio, ratio)
    return square if shape == 2 else _CONTEXT.sqrt(_CONTEXT.multiply(square, ratio))
