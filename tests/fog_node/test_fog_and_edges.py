"""A fog and edges as real processes over CURVE: what is acknowledged arrives, once, whatever dies."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest
from tests.node_processes import Deployment, write_frames

from common.store import open_edge_store, open_fog_store
from common.store.records import RecordKind

PACKETS = (RecordKind.PACKET,)


@pytest.fixture
def deployment(tmp_path):
    deployment = Deployment(tmp_path)
    yield deployment
    deployment.end()


def log_of(fog):
    """(device, epoch, number, kind) -> digest of every record in the fog's log."""
    with open_fog_store(fog.store) as store:
        records, after = [], 0
        while True:
            page = store.read(after, 100, 1 << 24)
            records += page.records
            after = page.through
            if not page.more:
                break
    keys = [(record.device, record.epoch, record.number, record.kind) for record in records]
    assert len(set(keys)) == len(keys), "a record stands twice in the log"
    return dict(zip(keys, [record.digest for record in records], strict=True))


def inbox_of(edge):
    with open_edge_store(edge.store, edge.keys.public) as store:
        records = [record for _, record in store.records(0, 10_000)]
    keys = [(record.device, record.epoch, record.number, record.kind) for record in records]
    assert len(set(keys)) == len(keys), "a record was applied twice"
    return dict(zip(keys, [record.digest for record in records], strict=True))


def test_frames_travel_from_every_edge_to_every_edge(deployment, tmp_path, photo):
    deployment.start_fog()
    names = [f"{n:03d}" for n in range(12)]
    one = deployment.edge("one", [write_frames(tmp_path / "a", photo, names)]).start()
    two = deployment.edge("two", [write_frames(tmp_path / "b", photo, [*names, "large"], 50)]).start()
    for edge in (one, two):
        edge.wait_for(lambda s: s["inbox"]["packet"] == 25, "25 packets")
    status = deployment.fog.wait_for(lambda s: s["log_position"] == 25, "25 records")
    assert status["encoded"]["packets"] == 25
    assert status["encoded"]["background_psnr_db"] == 30.0
    for edge in (one, two):
        assert edge.terminate() == 0
    assert deployment.fog.terminate() == 0
    log = log_of(deployment.fog)
    assert len(log) == 25
    assert inbox_of(one) == log
    assert inbox_of(two) == log
