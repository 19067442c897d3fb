"""Durable storage: one contract, an SQLite and an in-memory implementation; imports no torch."""

from __future__ import annotations

from pathlib import Path

from common.store.contract import EdgeStore, FogStore, TrainingView
from common.store.settings import EdgeStoreSettings, FogStoreSettings
from common.store.sqlite_edge import SqliteEdgeStore
from common.store.sqlite_fog import SqliteFogStore
from common.store.sqlite_view import SqliteTrainingView

__all__ = ["open_edge_store", "open_fog_store", "open_training_view"]


def open_fog_store(folder: str | Path, settings: FogStoreSettings | None = None) -> FogStore:
    """The fog's durable store in a folder, made when missing.

    Raises:
        StoreError: Another process has it open, or a newer program wrote it.
    """
    return SqliteFogStore(Path(folder), settings)


def open_edge_store(folder: str | Path, device: str, settings: EdgeStoreSettings | None = None) -> EdgeStore:
    """The edge's durable store in a folder, made when missing.

    Args:
        folder: The store's folder.
        device: This device's key, 40 characters of Z85.
        settings: Bounds.

    Raises:
        StoreError: Another process has it open, or a newer program wrote it.
    """
    return SqliteEdgeStore(Path(folder), device, settings)


def open_training_view(folder: str | Path) -> TrainingView:
    """The trainer's read-only view of a fog's or an edge's store, beside its daemon.

    Raises:
        StoreError: There is no store in the folder, or a newer program wrote it.
    """
    return SqliteTrainingView(Path(folder))
