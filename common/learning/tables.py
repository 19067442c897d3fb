"""Growing tables of tensors: rows are appended at the end and removed anywhere."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["Table"]

GROWTH = 0.25
"""Spare rows made when a table grows, as a share of its rows: copying stays at a few bytes a byte added."""
DEAD = 0.125
"""Share of removed rows above which a table is copied together: the same bound for removal."""
INDEX_BYTES = 9
"""Host memory of a row beside its columns: its number, and whether it is still wanted."""


class Table:
    """Columns of equal length on one device.

    A row keeps its number for life: numbers count every row ever appended, so other tables may name rows of
    this one although others have gone. While a column is copied, it alone is briefly held twice.

    Args:
        columns: One tensor a column, of any number of rows (dimension 0); they are copied.
    """

    def __init__(self, columns: Sequence[Tensor]) -> None:
        rows = int(columns[0].shape[0])
        self._columns = [c.clone() for c in columns]
        # Host memory, of as many rows as the columns; the first ``_used`` hold numbers, ascending.
        self._numbers = torch.arange(rows)
        self._alive = torch.ones(rows, dtype=torch.bool)
        self._used = rows
        self._dead = 0
        self.end = rows
        """Number that the next appended row will get."""

    def __len__(self) -> int:
        return self._used - self._dead

    @property
    def numbers(self) -> Tensor:
        """(N,) int64 numbers of the rows that are here, ascending."""
        used = self._numbers[: self._used]
        return used[self._alive[: self._used]] if self._dead else used.clone()

    @property
    def columns(self) -> list[Tensor]:
        """The columns with all their spare rows; index them with :meth:`places`."""
        return self._columns

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return INDEX_BYTES + sum(c.element_size() * math.prod(c.shape[1:]) for c in self._columns)

    @property
    def nbytes(self) -> int:
        """Bytes allocated, spare and removed rows included."""
        return self.capacity * self.row_bytes

    @property
    def capacity(self) -> int:
        """Rows allocated."""
        return int(self._columns[0].shape[0])

    def has(self, numbers: Tensor) -> Tensor:
        """Which of the rows ``numbers`` (N,) int64 are here, (N,) bool."""
        places = self.places(numbers).clamp_max(max(0, self._used - 1))
        if self._used == 0:
            return torch.zeros(numbers.shape, dtype=torch.bool)
        return (self._numbers[places] == numbers) & self._alive[places]

    def places(self, numbers: Tensor) -> Tensor:
        """Where in :attr:`columns` the rows ``numbers`` (int64) lie."""
        return torch.searchsorted(self._numbers[: self._used], numbers.contiguous())

    def growth(self, rows: int) -> int:
        """Bytes that appending ``rows`` rows must allocate at the least."""
        return max(0, len(self) + rows - self.capacity) * self.row_bytes if self._must_move(rows) else 0

    def append(self, columns: Sequence[Tensor], spare_bytes: int = 0) -> int:
        """Copy rows to the end; returns the number of the first.

        Args:
            columns: As many tensors as the table has, of equal length.
            spare_bytes: If the table must grow, at most this many bytes more than needed.
        """
        rows = int(columns[0].shape[0])
        if self._must_move(rows):
            spare = min(int(len(self) * GROWTH), spare_bytes // self.row_bytes)
            self._move(len(self) + rows + max(0, spare))
        at = self._used
        for mine, new in zip(self._columns, columns, strict=True):
            mine[at : at + rows] = new
        self._numbers[at : at + rows] = torch.arange(self.end, self.end + rows)
        self._alive[at : at + rows] = True
        self._used += rows
        self.end += rows
        return self.end - rows

    def remove(self, numbers: Tensor) -> None:
        """Forget these rows (int64), each of which is here; their memory is given back in larger pieces."""
        if not len(numbers):
            return
        self._alive[self.places(numbers)] = False
        self._dead += len(numbers)
        if self._dead > DEAD * self._used:
            self._move(len(self))

    def trim(self) -> None:
        """Give back spare rows and the rows that were removed."""
        if self.capacity > len(self):
            self._move(len(self))

    def _must_move(self, rows: int) -> bool:
        return self._used + rows > self.capacity

    def _move(self, capacity: int) -> None:
        kept = self._alive[: self._used].nonzero()[:, 0]
        for index, column in enumerate([*self._columns, self._numbers, self._alive]):
            grown = torch.empty((capacity, *column.shape[1:]), dtype=column.dtype, device=column.device)
            if self._dead:
                grown[: len(kept)] = column[kept.to(column.device)]
            else:
                grown[: self._used] = column[: self._used]
            if index < len(self._columns):
                self._columns[index] = grown
            elif index == len(self._columns):
                self._numbers = grown
            else:
                self._alive = grown
        self._used, self._dead = len(kept), 0
