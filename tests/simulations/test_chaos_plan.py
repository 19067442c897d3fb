"""What a chaos run does follows from its seed."""

import itertools
from collections import Counter

import pytest

from common.errors import PacketFormatError
from common.frame import Frame, content_digest
from common.store.records import INLINE_LIMIT_BYTES
from fog_node.workers.encoder_messages import StartEncoder
from simulations.chaos import passthrough
from simulations.chaos.deployment import undelivered, write_frames
from simulations.chaos.disks import damage_file
from simulations.chaos.plan import DRAWS, FaultKind, Recording, draw_plan


def test_the_same_seed_gives_the_same_plan():
    assert draw_plan(5) == draw_plan(5)
    assert draw_plan(5) != draw_plan(6)


def test_a_row_of_seeds_meets_every_fault():
    plans = [draw_plan(seed) for seed in range(len(DRAWS))]
    assert {fault.kind for plan in plans for fault in plan.faults} == set(FaultKind)


def test_faults_that_cannot_be_done_are_not_drawn():
    kinds = {FaultKind.CLOCK_FOG, FaultKind.FULL_DISK_FOG}
    faults = [fault for seed in range(100) for fault in draw_plan(seed, without=kinds).faults]
    assert not {fault.kind for fault in faults} & kinds


def test_runs_have_calm_and_an_end():
    for seed in range(200):
        plan = draw_plan(seed)
        begins = [fault.at_s for fault in plan.faults]
        assert 3 <= len(begins) <= 5
        assert begins[0] > 0
        assert all(later - earlier > 0.15 for earlier, later in itertools.pairwise(begins))
        assert plan.seconds == max(fault.at_s + fault.seconds for fault in plan.faults) < 25
        assert any(edge.frames for edge in plan.edges)
        for edge in plan.edges:
            assert edge.large <= edge.frames


def test_every_edge_and_every_size_is_struck():
    plans = [draw_plan(seed) for seed in range(200)]
    places = Counter(fault.place for plan in plans for fault in plan.faults)
    assert {"fog", "edge1", "edge2", "edge3"} == set(places)
    assert any(not edge.frames for plan in plans for edge in plan.edges)
    assert any(edge.large for plan in plans for edge in plan.edges)


def test_a_passthrough_packet_tells_its_image_and_notices_any_other():
    image = b"an image " * 100
    (encoded,) = passthrough.factory(StartEncoder({}, "cpu", 1))([Frame("f", image, 4, 4)])
    assert passthrough.source_of(encoded.packet) == content_digest(image)
    for place in range(0, len(encoded.packet), 37):
        damaged = bytearray(encoded.packet)
        damaged[place] ^= 1
        with pytest.raises(PacketFormatError, match="no packet"):
            passthrough.source_of(bytes(damaged))


FOG = {"frames_pending": 0, "log_id": 9, "log_position": 30}
EDGE = {
    "recording": {"state": "done"},
    "outbox": {"waiting": 0},
    "problem": None,
    "log_id": 9,
    "log_position": 30,
}


@pytest.mark.parametrize(
    ("fog", "edge", "missing"),
    [
        (FOG, EDGE, ""),
        (None, EDGE, "the fog has no status"),
        (FOG, None, "edge1 has no status"),
        (FOG, EDGE | {"recording": {"state": "full"}}, "edge1 still is full"),
        (FOG, EDGE | {"outbox": {"waiting": 3}}, "3 frames wait at edge1 (no problem)"),
        (FOG | {"frames_pending": 2}, EDGE, "2 frames wait to be encoded"),
        (FOG, EDGE | {"log_position": 29}, "edge1 stands at position 29 of 30"),
        (FOG, EDGE | {"log_id": 8}, "edge1 stands at position 30 of 30"),
    ],
)
def test_a_drain_waits_for_every_step_of_every_frame(fog, edge, missing):
    assert undelivered(fog, {"edge1": edge}) == missing


def test_frames_differ_and_large_ones_become_files(tmp_path):
    write_frames(tmp_path / "noise", Recording(6, 2, 1.0), 3)
    write_frames(tmp_path / "waves", Recording(6, 2, 1.0), 3, smooth=True)
    for folder in ("noise", "waves"):
        images = [path.read_bytes() for path in sorted((tmp_path / folder / "img").iterdir())]
        assert len(set(images)) == 6
    sizes = [path.stat().st_size for path in (tmp_path / "noise" / "img").iterdir()]
    assert sum(size > INLINE_LIMIT_BYTES for size in sizes) == 2


def test_damage_changes_a_file_and_says_how(tmp_path):
    import random

    sentences = set()
    for seed in range(30):
        path = tmp_path / "file"
        before = bytes(range(256)) * 64
        path.write_bytes(before)
        sentences.add(damage_file(path, random.Random(seed)).split()[-1])
        assert path.read_bytes() != before
    assert sentences == {"flipped", "zero", "off"}
