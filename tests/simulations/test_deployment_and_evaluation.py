"""Configurations the daemons accept; hashes, quality, speed and plan of what a deployment left."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from common.bitstream import (
    Layer,
    Network,
    ObjectPatch,
    Packet,
    QuantizedTensor,
    decode_packet,
    encode_packet,
)
from common.cost_model import Strategy
from common.errors import DeploymentError
from common.frame import Box, Frame, FrameIdentity
from common.images import encode_jpeg
from common.node.settings import load_node_settings
from common.store import open_edge_store, open_fog_store
from common.store.records import RecordKind
from edge_node.settings import EdgeSettings
from fog_node.settings import FogSettings
from simulations.deployment import prepare, training_settings, write_edges
from simulations.evaluation import (
    decode,
    decoding_speed,
    log_records,
    measure_quality,
    picture,
    verified_records,
)
from simulations.loopback_scenario import LoopbackScenario, load_loopback_scenario
from simulations.outcome import measured_plan
from simulations.recordings import Recordings, made_recordings

KEY = "a" * 40


@pytest.fixture(scope="module")
def scenario() -> LoopbackScenario:
    values = load_loopback_scenario().model_dump() | {"frames": 14, "width": 64, "edges": 2, "trainers": 1}
    return LoopbackScenario.model_validate(values)


@pytest.fixture(scope="module")
def recordings(scenario: LoopbackScenario) -> Recordings:
    return made_recordings(scenario)


def tensor(*shape: int, value: int = 0, scale: float = 1.0) -> QuantizedTensor:
    return QuantizedTensor(np.full(shape, value, np.int16), scale)


def flat_network(grey: float) -> Network:
    """A network whose output is ``grey`` everywhere: only the last bias is not zero."""
    last = Layer(tensor(3, 4), tensor(3, value=1000 if grey >= 0 else -1000, scale=abs(grey) / 1000))
    return Network((Layer(tensor(4, 2), tensor(4)), last))


def packet_of(frame: Frame, grey: float, residual: float | None = None) -> Packet:
    """A packet that decodes to ``grey`` (0..1), plus ``residual`` inside the first box."""
    objects = () if residual is None else (ObjectPatch(0, 1.0, flat_network(residual)),)
    return Packet(
        "siren",
        frame.width,
        frame.height,
        frame.labelled,
        frame.validation,
        frame.boxes,
        frame.digest,
        flat_network(2 * grey - 1),
        objects,
        frame.identity,
    )


def grey_frame(number: int, level: int) -> Frame:
    image = encode_jpeg(np.full((36, 64, 3), level, np.uint8), 100)
    box = Box(16, 8, 32, 24, "person")
    identity = FrameIdentity(KEY, 7, number)
    return Frame(f"f{number}", image, 64, 36, labelled=True, boxes=(box,), identity=identity)


def test_every_node_accepts_its_configuration(
    tmp_path: Path, scenario: LoopbackScenario, recordings: Recordings
) -> None:
    files = prepare(tmp_path, scenario, recordings)
    write_edges(files, scenario, recordings, 12345)
    fog, base = load_node_settings(files.fog / "fog.yaml", FogSettings)
    assert base == files.fog
    assert fog.training.starter_frames == recordings.training_frames(0)
    for edge, place in enumerate(files.edges):
        settings, base = load_node_settings(place / "edge.yaml", EdgeSettings)
        assert settings.fog.address == "tcp://127.0.0.1:12345"
        assert settings.fog.public_key == files.fog_key
        assert [s.wait_for_detector for s in settings.sources] == [False, True]
        assert all((base / s.path).is_file() for s in settings.sources)
        assert settings.training.mode == ("always" if edge == 0 else "never")
        assert settings.validation.block == recordings.per_edge
        assert settings.training.detector.classes == fog.training.detector.classes
    text = (files.fog / "allow.yaml").read_text()
    assert all(key in text for key in files.edge_keys)


def test_secret_keys_are_for_their_owner_only(
    tmp_path: Path, scenario: LoopbackScenario, recordings: Recordings
) -> None:
    files = prepare(tmp_path, scenario, recordings)
    for folder in (files.fog, *files.edges):
        assert (folder / "keys" / "secret.key").stat().st_mode & 0o077 == 0


def test_decoding_gives_the_background_alone_or_with_its_objects() -> None:
    packet = packet_of(grey_frame(0, 100), 100 / 255, residual=50 / 255)
    background, result = decode(packet, with_objects=False), decode(packet)
    assert background.shape == (36, 64, 3)
    assert np.all(background == 100)
    assert np.all(result[8:24, 16:32] == 150)
    result[8:24, 16:32] = 100
    assert np.all(result == 100)


def test_quality_is_measured_against_the_recorded_frames() -> None:
    frames = [grey_frame(0, 100), grey_frame(1, 60)]
    sources = {f.digest: f for f in frames}
    packets = [packet_of(frames[0], 101 / 255, residual=9 / 255), packet_of(frames[1], 60 / 255)]
    quality = measure_quality(packets, sources)
    one, ten = 20 * np.log10(255 / 1), 20 * np.log10(255 / 10)
    assert quality.background_db == pytest.approx((one + 99) / 2, abs=0.01)
    assert quality.object_db == pytest.approx((ten + 99) / 2, abs=0.01)
    assert quality.objects == 2


def test_a_packet_of_an_unknown_source_is_an_error() -> None:
    with pytest.raises(DeploymentError, match="no edge of this run recorded"):
        measure_quality([packet_of(grey_frame(0, 100), 0.4)], {})


def test_a_picture_is_named_by_its_frame() -> None:
    frame = grey_frame(3, 100)
    name, image = picture(packet_of(frame, 0.4), {frame.digest: frame})
    assert name == "f3"
    assert image.shape[1] == 4 * 64


def test_decoding_speed_needs_frames_that_train(recordings: Recordings, scenario: LoopbackScenario) -> None:
    settings = training_settings(scenario, ("bus", "person"), 10, 1)
    frame = grey_frame(0, 100)
    speed = decoding_speed([packet_of(frame, 0.4)] * 3, settings, seconds=0.05)
    assert speed is not None
    assert speed > 0
    held_out = dataclasses.replace(frame, validation=True)
    assert decoding_speed([packet_of(held_out, 0.4)], settings, seconds=0.05) is None


def filled_log(folder: Path, frames: list[Frame]) -> None:
    with open_fog_store(folder) as fog:
        fog.commit_frames(frames)
        for frame in frames:
            assert frame.identity is not None
            meta = {"jpeg_bytes": len(frame.image), "encode_seconds": 1.0}
            fog.finish(frame.identity, RecordKind.PACKET, meta, encode_packet(packet_of(frame, 0.4)))
        fog.append(RecordKind.WEIGHTS, "f" * 40, 9, 1, {}, b"w" * 1000)


def test_an_edge_that_holds_the_log_is_verified_by_hash(tmp_path: Path) -> None:
    filled_log(tmp_path / "fog", [grey_frame(i, 40 + i) for i in range(5)])
    with open_fog_store(tmp_path / "fog") as fog:
        log = log_records(fog)
    assert [r.kind for r in log] == [RecordKind.PACKET] * 5 + [RecordKind.WEIGHTS]
    with open_edge_store(tmp_path / "edge", KEY) as edge:
        edge.apply(log[:3], 3)
        assert verified_records(log, edge) == (3, 3)
        edge.apply(log[3:], 6)
        assert verified_records(log, edge) == (6, 6)


def test_an_edge_with_other_bytes_is_not_verified(tmp_path: Path) -> None:
    filled_log(tmp_path / "fog", [grey_frame(i, 40 + i) for i in range(3)])
    filled_log(tmp_path / "other", [grey_frame(i, 140 + i) for i in range(3)])
    with open_fog_store(tmp_path / "fog") as fog, open_fog_store(tmp_path / "other") as other:
        log, others = log_records(fog), log_records(other)
    with open_edge_store(tmp_path / "edge", KEY) as edge:
        edge.apply([log[0], others[1], log[2], log[3]], 4)
        assert verified_records(log, edge) == (4, 3)


def test_the_measured_plan_counts_every_other_edge_as_a_receiver(tmp_path: Path) -> None:
    filled_log(tmp_path / "fog", [grey_frame(i, 40 + i) for i in range(3)])
    with open_fog_store(tmp_path / "fog") as fog:
        log = log_records(fog)
    answer = measured_plan(log, (KEY, "b" * 40, "c" * 40))
    jpeg = sum(int(r.meta["jpeg_bytes"]) for r in log[:3])
    packets = sum(r.size for r in log[:3])
    assert answer.decided_by == "bytes"
    assert answer.cost(Strategy.SERVERLESS).bytes == 2 * jpeg
    assert answer.cost(Strategy.EDGE).bytes == jpeg + 2 * packets
    assert answer.cost(Strategy.FOG).bytes == jpeg + 3 * 1000


def test_packets_survive_the_bitstream() -> None:
    packet = packet_of(grey_frame(0, 100), 0.4, residual=0.1)
    assert np.array_equal(decode(decode_packet(encode_packet(packet))), decode(packet))
