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
    assert {"fog", "fog2", "edge1", "edge2", "edge3"} == set(places)
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


def test_variants_meet_each_other_and_leave_most_runs_plain():
    plans = [draw_plan(seed) for seed in range(400)]
    names = Counter(name for plan in plans for name in plan.variant.names())
    assert set(names) == {"several fogs", "log drop oldest", "log refuse", "labels corrected"}
    assert all(40 <= count <= 180 for count in names.values())
    assert any(len(plan.variant.names()) == 3 for plan in plans)
    assert sum(not plan.variant.names() for plan in plans) > 100


def test_of_several_fogs_each_is_struck_and_of_one_only_that():
    plans = [draw_plan(seed) for seed in range(100)]
    places = Counter(
        (plan.variant.fogs, fault.place) for plan in plans for fault in plan.faults if fault.edge is None
    )
    assert set(places) == {(1, "fog"), (2, "fog"), (2, "fog2")}
    assert all(draw_plan(seed, most_fogs=1).variant.fogs == 1 for seed in range(100))


def test_labels_are_corrected_of_edges_that_record_and_within_the_run():
    plans = [plan for seed in range(200) if (plan := draw_plan(seed)).variant.relabels]
    for plan in plans:
        for relabel in plan.variant.relabels:
            assert plan.edges[relabel.edge].frames > 0
            assert 0 < relabel.at_s <= plan.seconds


FOG = {"frames_pending": 0, "log_id": 9, "log_position": 30}
EDGE = {
    "recording": {"state": "done"},
    "outbox": {"waiting": 0},
    "problem": None,
    "fogs": [{"log_id": 9, "log_position": 30}],
}


@pytest.mark.parametrize(
    ("fog", "edge", "missing"),
    [
        (FOG, EDGE, ""),
        (FOG, EDGE | {"recording": {"state": "watching"}}, ""),
        (None, EDGE, "fog has no status"),
        (FOG, None, "edge1 has no status"),
        (FOG, EDGE | {"recording": {"state": "full"}}, "edge1 still is full"),
        (FOG, EDGE | {"outbox": {"waiting": 3}}, "3 frames wait at edge1 (no problem)"),
        (FOG | {"frames_pending": 2}, EDGE, "2 frames wait to be encoded at fog"),
        (
            FOG,
            EDGE | {"fogs": [{"log_id": 9, "log_position": 29}]},
            "edge1 stands at position 29 of 30",
        ),
        (
            FOG,
            EDGE | {"fogs": [{"log_id": 8, "log_position": 30}]},
            "edge1 stands at position 0 of 30",
        ),
    ],
)
def test_a_drain_waits_for_every_step_of_every_frame(fog, edge, missing):
    assert undelivered({"fog": fog}, {"edge1": edge}).removesuffix(" of fog") == missing


def test_a_drain_waits_for_each_of_several_fogs():
    other = {"frames_pending": 0, "log_id": 4, "log_position": 7}
    edge = EDGE | {"fogs": [*EDGE["fogs"], {"log_id": 4, "log_position": 6}]}
    assert undelivered({"fog": FOG, "fog2": other}, {"edge1": edge}).endswith("6 of 7 of fog2")
    edge = EDGE | {"fogs": [*EDGE["fogs"], {"log_id": 4, "log_position": 7}]}
    assert undelivered({"fog": FOG, "fog2": other}, {"edge1": edge}) == ""


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
