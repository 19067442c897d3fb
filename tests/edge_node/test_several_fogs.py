"""Several fogs share the devices, as real processes: every frame is everywhere, once, whatever ends."""

from __future__ import annotations

import pytest

from common.ownership import FogShare, owner
from common.store import open_edge_store, open_fog_store
from common.store.records import RecordKind
from common.wire.allow_list import Device
from tests.node_processes import Deployment, write_frames

WHOLE = 60.0
"""Seconds that a busy machine gets for what takes a few."""


class Fogs:
    """Fogs by name, and edges drawn until their keys belong to a given one."""

    def __init__(self, folder):
        self.deployment = Deployment(folder)
        self.folder = folder
        self.fogs = {"north": self.deployment.fog}
        self.edges = []

    def add(self, name):
        settings = {**self.deployment.fog.settings, "address": "tcp://127.0.0.1:0"}
        settings["allow_list"] = str(self.deployment.allow.path)
        self.fogs[name] = self.deployment._node(name, "fog_node.cli", "serve", settings)
        return self.fogs[name]

    def start(self, name, **changes):
        fog = self.fogs[name]
        fog.start(**changes)
        status = fog.wait_for(lambda status: status["port"] > 0, "the fog's port")
        fog.settings["address"] = f"tcp://127.0.0.1:{status['port']}"
        return fog

    def listed(self, *names):
        return [
            {"address": self.fogs[name].settings["address"], "public_key": self.fogs[name].keys.public}
            for name in names
        ]

    def owner(self, edge, *names):
        key = owner(edge.keys.public, [FogShare(self.fogs[name].keys.public) for name in names])
        return next(name for name in names if self.fogs[name].keys.public == key)

    def edge(self, name, belongs, sources=(), **settings):
        """An edge that belongs to a fog when all fogs that there are share the devices."""
        for attempt in range(100):
            edge = self.deployment.edge(f"{name}-{attempt}", sources, allowed=False, **settings)
            if self.owner(edge, *self.fogs) == belongs:
                break
        self.deployment.allow.add(Device(edge.keys.public, True, ("*",)))
        self.edges.append(edge)
        return edge

    def start_edge(self, edge, *names):
        edge.settings.pop("fog", None)
        edge.settings["fogs"] = self.listed(*names)
        return edge.start()

    def finish(self):
        for node in [*self.edges, *self.fogs.values()]:
            if node.process is not None and node.process.poll() is None:
                assert node.terminate() == 0

    def check_everything_once(self, frames):
        """Every log's frames are at every edge once, and no frame is in two logs."""
        logs = [frames_of(open_fog_store(fog.store), fog=True) for fog in self.fogs.values()]
        together = [key for log in logs for key in log]
        assert len(together) == len(set(together)) == frames
        for edge in self.edges:
            held = frames_of(open_edge_store(edge.store, edge.keys.public), fog=False)
            assert len(held) == len(set(held))
            assert set(held) == set(together)
        return logs


def frames_of(store, *, fog):
    """(device, epoch, number) of every packet of a log or an inbox."""
    with store:
        if fog:
            records = list(store.read(0, 10_000, 1 << 30).records)
        else:
            records = [record for _, record in store.records(0, 10_000)]
    return [(r.device, r.epoch, r.number) for r in records if r.kind is RecordKind.PACKET]


@pytest.fixture
def fogs(tmp_path):
    fogs = Fogs(tmp_path)
    yield fogs
    fogs.deployment.end()


def names(count, start=0):
    return [f"{start + n:03d}" for n in range(count)]


def test_two_fogs_and_three_edges_every_frame_is_everywhere_exactly_once(fogs, tmp_path, photo):
    fogs.add("south")
    fogs.start("north")
    fogs.start("south")
    for index, belongs in enumerate(("north", "south", "south")):
        source = write_frames(tmp_path / f"clip{index}", photo, names(8), 20 * index)
        fogs.start_edge(fogs.edge(f"edge{index}", belongs, [source]), "north", "south")
    for edge in fogs.edges:
        status = edge.wait_for(lambda s: s["inbox"]["packet"] == 24, "24 packets", WHOLE)
        assert [fog["own"] for fog in status["fogs"]] == [True, False]
        assert {fog["connection"] for fog in status["fogs"]} == {"open"}
        assert status["fog"] == fogs.fogs[fogs.owner(edge, "north", "south")].settings["address"]
    fogs.finish()
    north, south = fogs.check_everything_once(24)
    first, *others = fogs.edges
    assert {device for device, _, _ in north} == {first.keys.public}
    assert {device for device, _, _ in south} == {edge.keys.public for edge in others}


def test_a_fog_that_is_down_delays_only_its_own_devices(fogs, tmp_path, photo):
    fogs.add("south")
    fogs.start("north")
    south = fogs.start("south")
    for index, belongs in enumerate(("north", "south")):
        source = write_frames(tmp_path / f"clip{index}", photo, names(40), 50 * index)
        edge = fogs.edge(f"edge{index}", belongs, [source])
        edge.settings["sources"][0]["frames_per_second"] = 40
        fogs.start_edge(edge, "north", "south")
    first, second = fogs.edges
    second.wait_for(lambda s: s["outbox"]["acknowledged"] >= 5, "some acknowledgements", WHOLE)
    south.kill()
    first.wait_for(lambda s: s["outbox"]["acknowledged"] == 40, "all of its own", WHOLE)
    status = second.wait_for(
        lambda s: s["fogs"][1]["log_position"] == 40 and "no fog answers" in s["problem"], "north's", WHOLE
    )
    assert status["outbox"]["acknowledged"] < 40
    south.start()
    for edge in fogs.edges:
        edge.wait_for(lambda s: s["inbox"]["packet"] == 80, "everything", WHOLE)
    fogs.finish()
    fogs.check_everything_once(80)


def test_a_fog_that_is_added_takes_over_devices_and_the_old_one_still_serves_what_it_took(
    fogs, tmp_path, photo
):
    north = fogs.start("north")
    fogs.add("south")
    stays = fogs.edge("stays", "north", [write_frames(tmp_path / "a", photo, names(6))])
    moves = fogs.edge("moves", "south", [write_frames(tmp_path / "b", photo, names(6), 30)])
    for edge in fogs.edges:
        edge.start()
    for edge in fogs.edges:
        edge.wait_for(lambda s: s["inbox"]["packet"] == 12, "the first frames", WHOLE)
        assert edge.terminate() == 0
    # Frames that no fog has acknowledged when the fogs change go to the new owner.
    north.kill()
    for edge, start in ((stays, 60), (moves, 90)):
        more = write_frames(tmp_path / f"more{start}", photo, names(5), start)
        edge.settings["sources"].append({"path": str(more)})
        edge.start()
        edge.wait_for(lambda s: s["outbox"]["waiting"] == 5, "frames that wait", WHOLE)
        assert edge.terminate() == 0
    fogs.start("north")
    fogs.start("south")
    late = fogs.edge("late", "south")
    for edge in fogs.edges:
        fogs.start_edge(edge, "north", "south")
    for edge in fogs.edges:
        edge.wait_for(lambda s: s["inbox"]["packet"] == 22, "everything", WHOLE)
    fogs.finish()
    logs = fogs.check_everything_once(22)
    counts = [
        {edge: sum(device == edge.keys.public for device, _, _ in log) for edge in (stays, moves, late)}
        for log in logs
    ]
    assert counts == [{stays: 11, moves: 6, late: 0}, {stays: 0, moves: 5, late: 0}]


def test_detectors_come_from_the_own_fog_only(fogs, tmp_path, photo):
    fogs.add("south")
    fogs.start("north", training={"module": "stub_trainer", "starter_frames": 4, "strategy": "edge"})
    fogs.start("south")
    source = write_frames(tmp_path / "clip", photo, names(6))
    north = fogs.start_edge(fogs.edge("a", "north", [source]), "north", "south")
    south = fogs.start_edge(fogs.edge("b", "south"), "north", "south")
    north.wait_for(lambda s: s["inbox"]["weights"] == 1, "weights of its fog", WHOLE)
    south.wait_for(
        lambda s: s["inbox"]["packet"] == 6 and s["fogs"][1]["log_position"] >= 7, "the whole log", WHOLE
    )
    assert south.status()["inbox"]["weights"] == 0
