"""Stores on disk, with frames in them."""

import sqlite3
from pathlib import Path

import common
from common.errors import StoreFullError
from common.frame import Frame, FrameIdentity, content_digest
from common.store import open_fog_store
from common.store.database import DATABASE_NAME
from common.store.records import (
    RecordKind,
)
from common.store.settings import FogStoreSettings

__all__ = ["CAMERA", "LOG", "ROOT", "execute", "files", "fill", "filled_fog", "frame"]

LOG = 2**64 - 3
CAMERA = "c" * 40

ROOT = Path(common.__file__).parents[1]
"""Where a child process finds the packages."""


def frame(number, size=500, validation=False):
    return Frame(
        f"frame{number}",
        content_digest(str(number).encode()) * (size // 32 + 1),
        64,
        48,
        True,
        (),
        FrameIdentity(CAMERA, 1, number),
        validation,
    )


def filled_fog(folder, count=3, size=500, **settings):
    """A fog's store with this many packets."""
    store = open_fog_store(folder, FogStoreSettings(**settings))
    store.commit_frames([frame(number) for number in range(count)])
    for item in store.pending_frames(count):
        store.finish(item.identity, RecordKind.PACKET, {}, frame(item.identity.number + 100, size).image)
    return store


def fill(store):
    """Commit 50 kB frames until the store is full; returns how many went in."""
    for number in range(100):
        try:
            store.commit_frames([frame(number, 50_000)])
        except StoreFullError:
            return number
    raise AssertionError("the store never became full")


def files(folder):
    """Names of the blobs and of anything half-written."""
    return sorted(path.name for path in (folder / "blobs").rglob("*") if path.is_file())


def execute(folder, sql):
    connection = sqlite3.connect(folder / DATABASE_NAME)
    with connection:
        connection.execute(sql)
    connection.close()
