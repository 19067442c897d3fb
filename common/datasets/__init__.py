"""Readers of recorded frames: every layout gives the same :class:`common.frame.Frame`."""

from __future__ import annotations

from common.datasets.registry import FORMATS, find_format, open_source
from common.datasets.source import FrameSource, ReadOptions

__all__ = ["FORMATS", "FrameSource", "ReadOptions", "find_format", "open_source"]
