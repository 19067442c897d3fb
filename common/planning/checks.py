"""Ranges of the figures that the communication model is told."""

from __future__ import annotations

from common.errors import ConfigError

__all__ = ["LARGEST", "check_positive", "check_range", "check_share"]

LARGEST = 1e18
"""Largest figure taken, an exabyte or 30 billion years: no product of them overflows."""


def check_range(owner: str, **values: float | None) -> None:
    """Refuse a figure that is negative, NaN or above :data:`LARGEST`; None passes.

    Raises:
        ConfigError: Names the figure and whose it is.
    """
    for name, value in values.items():
        if value is not None and not 0 <= value <= LARGEST:
            raise ConfigError(f"{owner} needs {name} between 0 and {LARGEST:g}, not {value}")


def check_positive(owner: str, **values: float | None) -> None:
    """As :func:`check_range`, but 0 is refused as well."""
    for name, value in values.items():
        if value is not None and not 1 / LARGEST <= value <= LARGEST:
            raise ConfigError(f"{owner} needs {name} above 0 and at most {LARGEST:g}, not {value}")


def check_share(owner: str, **values: float) -> None:
    """Refuse a figure that is no share above 0 and at most 1."""
    for name, value in values.items():
        if not 0 < value <= 1:
            raise ConfigError(f"{owner} needs {name} above 0 and at most 1, not {value}")
