"""Growing tables of tensors: rows are appended at the end and evicted from the front."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["Table"]

GROWTH = 0.25
"""Spare rows made when a table grows, as a share of its rows: copying stays at a few bytes a byte added."""


class Table:
    """Columns of equal length on one device.

    A row keeps its number for life: numbers count every row ever appended, so other tables may name rows of
    this one although the oldest have gone. While a column grows, it alone is briefly held twice.

    Args:
        columns: One tensor a column, of any number of rows (dimension 0); they are copied.
    """

    def __init__(self, columns: Sequence[Tensor]) -> None:
        self._columns = [c.clone() for c in columns]
        self._base = 0
        self.first = 0
        """Number of the oldest row that is still here."""
        self.end = int(columns[0].shape[0])
        """Number that the next appended row will get."""

    def __len__(self) -> int:
        return self.end - self.first

    @property
    def columns(self) -> list[Tensor]:
        """The columns with all their spare rows; index them with :meth:`places`."""
        return self._columns

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return sum(c.element_size() * math.prod(c.shape[1:]) for c in self._columns)

    @property
    def nbytes(self) -> int:
        """Bytes allocated, spare rows included."""
        return sum(c.nbytes for c in self._columns)

    @property
    def capacity(self) -> int:
        """Rows allocated."""
        return int(self._columns[0].shape[0])

    def places(self, numbers: Tensor) -> Tensor:
        """Where in :attr:`columns` the rows ``numbers`` (int64) lie."""
        return numbers - self._base

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
        at = self.end - self._base
        for mine, new in zip(self._columns, columns, strict=True):
            mine[at : at + rows] = new
        self.end += rows
        return self.end - rows

    def drop(self, first: int) -> None:
        """Forget the rows before number ``first``."""
        self.first = max(self.first, min(first, self.end))

    def trim(self) -> None:
        """Give back spare rows and the rows that were dropped."""
        if self.capacity > len(self):
            self._move(len(self))

    def _must_move(self, rows: int) -> bool:
        return self.end - self._base + rows > self.capacity

    def _move(self, capacity: int) -> None:
        low, high = self.first - self._base, self.end - self._base
        for index, column in enumerate(self._columns):
            grown = torch.empty((capacity, *column.shape[1:]), dtype=column.dtype, device=column.device)
            grown[: high - low] = column[low:high]
            self._columns[index] = grown
        self._base = self.first
