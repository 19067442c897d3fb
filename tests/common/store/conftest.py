"""Each implementation of the stores, for tests of what all of them promise."""

import pytest

from common.store.memory_edge import MemoryEdgeStore
from common.store.memory_fog import MemoryFogStore
from common.store.settings import EdgeStoreSettings, FogStoreSettings
from common.store.sqlite_edge import SqliteEdgeStore
from common.store.sqlite_fog import SqliteFogStore

CAMERA = "c" * 40


@pytest.fixture(params=["sqlite", "memory"])
def open_fog(request, tmp_path):
    """Makes a fog's store with these settings."""
    stores = []

    def make(**settings):
        chosen = FogStoreSettings(**settings)
        memory = request.param == "memory"
        stores.append(MemoryFogStore(chosen) if memory else SqliteFogStore(tmp_path / "fog", chosen))
        return stores[-1]

    yield make
    for store in stores:
        store.close()


@pytest.fixture(params=["sqlite", "memory"])
def open_edge(request, tmp_path):
    """Makes an edge's store with these settings."""
    stores = []

    def make(**settings):
        chosen = EdgeStoreSettings(**settings)
        memory = request.param == "memory"
        stores.append(
            MemoryEdgeStore(CAMERA, chosen) if memory else SqliteEdgeStore(tmp_path / "edge", CAMERA, chosen)
        )
        return stores[-1]

    yield make
    for store in stores:
        store.close()


@pytest.fixture
def fog(open_fog):
    return open_fog()


@pytest.fixture
def edge(open_edge):
    return open_edge()
