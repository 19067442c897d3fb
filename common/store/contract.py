"""The contracts of the stores; each has an SQLite and an in-memory implementation.

    from common.store import open_edge_store, open_fog_store, open_training_view

Every method that writes has committed to disk (fsync) when it returns, and has changed nothing
when it raises. Methods may be called from any thread: a lock serialises them. What a node tells of
itself (ids, positions, counts) is held in memory, so that asking for it waits for no other call:
``log_id``, ``pending_count``, ``usage`` and ``full`` at the fog; ``epoch``, ``log_id``, ``position``,
``positions``, ``inbox_position``, ``count``, ``waiting_packets``, ``original_count``, ``outbox_state``,
``usage`` and ``full`` at an edge. One process at a time may hold a store open for writing; any number
may open a :class:`TrainingView` meanwhile.

Errors common to all methods: ``StoreFullError`` (disk or quota full, nothing half-written, works
again once there is room), ``StoreCorruptError`` (a record does not match its checksum) and
``StoreError`` (anything else that storage refuses).
"""

from common.store.edge_store import EdgeStore
from common.store.fog_store import FogStore
from common.store.training_view import Closable, TrainingView

__all__ = ["Closable", "EdgeStore", "FogStore", "TrainingView"]
