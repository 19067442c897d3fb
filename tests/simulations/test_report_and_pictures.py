"""The table, the JSON object, the pictures and the plot of a made result."""

import dataclasses
import io
import json

import numpy as np
import pytest

from common.cost_model import Deployment, DeviceLoad, plan
from common.frame import Box
from common.images import decode_image
from simulations.pictures import (
    HEADER_PX,
    Curve,
    plot_learning,
    residual_picture,
    side_by_side,
    write_pictures,
)
from simulations.report import (
    CAVEAT,
    DetectorScore,
    LoopbackResult,
    NodeFigures,
    TrainingOutcome,
    print_table,
)

SCORES = (
    DetectorScore("starter", "street", 0.5, 0.3),
    DetectorScore("starter", "match", 0.0, 0.0),
    DetectorScore("edge 1", "street", 0.45, 0.25),
    DetectorScore("edge 1", "match", 0.6, 0.35),
)


@pytest.fixture
def result() -> LoopbackResult:
    answer = plan(Deployment((DeviceLoad(1e6, 1, 20),) * 2, 0.5, 6e6))
    return LoopbackResult(
        nodes=(
            NodeFigures("fog", 100, 5570, 41, 41),
            NodeFigures("edge 1", 101, None, 41, 41, 41),
            NodeFigures("edge 2", 102, None, 41, 41, 41),
        ),
        clips=("street", "match"),
        frames=40,
        packets=40,
        tombstones=0,
        jpeg_bytes=2_000_000,
        packet_bytes=1_000_000,
        uplink_bytes=2_050_000,
        downlink_bytes=9_000_000,
        downlink_packet_bytes=2_000_000,
        downlink_weights_bytes=6_500_000,
        background_psnr_db=27.5,
        object_psnr_db=31.25,
        encode_s_per_frame=2.2,
        decode_frames_per_s=150.0,
        scores=SCORES,
        trainings=(TrainingOutcome("edge 1", True, "better by 35 points", 80.0, 160),),
        plan=answer.to_json(),
        sentence=answer.sentence,
        plan_from_fog=None,
        seconds={"encoding": 90.0, "total": 300.0},
        made_clips=True,
        out="out/demo",
        pictures="out/demo/pictures",
        plot="out/demo/learning.png",
    )


def test_the_table_names_every_daemon_byte_count_and_score(
    result: LoopbackResult, capsys: pytest.CaptureFixture[str]
) -> None:
    print_table(result)
    text = capsys.readouterr().out
    for figure in ("pid 100, port 5570", "log position 41", "2.050 MB = 1.02 times the JPEG bytes"):
        assert figure in text
    for figure in ("2.000 MB = 1.00 times the JPEG bytes", "0.500 MB (validation originals"):
        assert figure in text
    for figure in ("27.50 dB", "31.25 dB", "2.20 s", "150.00 frames/s", "mAP50 0.600", "mAP50-95 0.350"):
        assert figure in text
    assert result.sentence in text
    assert "verified by content hash" in text
    assert CAVEAT in text


def test_on_a_terminal_the_same_figures_are_drawn(
    result: LoopbackResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setattr("sys.stdout", terminal)
    print_table(result)
    assert "pid 100, port 5570" in terminal.getvalue()
    assert "mAP50 0.600" in terminal.getvalue()


def test_the_result_is_one_json_object(result: LoopbackResult) -> None:
    value = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert value["verified"] is True
    assert value["plan"]["choice"] == "serverless"
    assert value["nodes"][0]["port"] == 5570


def test_a_good_run_has_no_problem(result: LoopbackResult) -> None:
    assert result.problem is None


def test_a_run_whose_map_stays_zero_is_a_failure(result: LoopbackResult) -> None:
    zero = tuple(dataclasses.replace(s, map50=0.0, map50_95=0.0) for s in SCORES)
    assert "mAP stayed 0" in str(dataclasses.replace(result, scores=zero).problem)


@pytest.mark.parametrize(("records", "verified"), [(40, 40), (41, 40), (42, 41)])
def test_a_store_that_differs_from_the_log_is_a_failure(
    result: LoopbackResult, records: int, verified: int
) -> None:
    edge = dataclasses.replace(result.nodes[1], records=records, verified=verified)
    broken = dataclasses.replace(result, nodes=(result.nodes[0], edge, result.nodes[2]))
    assert not broken.verified
    assert "differs from the fog's log" in str(broken.problem)


def test_unknown_figures_are_said_to_be_unknown(
    result: LoopbackResult, capsys: pytest.CaptureFixture[str]
) -> None:
    print_table(dataclasses.replace(result, object_psnr_db=None, made_clips=False))
    text = capsys.readouterr().out
    assert "unknown" in text
    assert CAVEAT not in text


def test_four_panels_stand_side_by_side_with_the_boxes_on_each() -> None:
    source = np.full((36, 64, 3), 50, np.uint8)
    background, result = source.copy(), source.copy()
    result[10:20, 10:20] += 10
    picture = side_by_side(source, background, result, [Box(10, 10, 20, 20, "bus")])
    assert picture.shape == (36 + HEADER_PX, 4 * 64, 3)
    for panel in range(4):
        edge = picture[HEADER_PX + 19, panel * 64 + 15]
        assert edge.tolist() == [255, 220, 0]
    # Inside the box, below the class name: source, background, residual, result.
    inside = [picture[HEADER_PX + 17, panel * 64 + 15, 0] for panel in range(4)]
    assert inside == [50, 50, 148, 60]


def test_the_residual_is_middle_grey_where_objects_add_nothing_and_never_wraps() -> None:
    background = np.array([[[0, 255, 100]]], np.uint8)
    result = np.array([[[255, 0, 100]]], np.uint8)
    assert residual_picture(background, result).tolist() == [[[255, 0, 128]]]


def test_pictures_of_a_former_run_go(tmp_path) -> None:
    image = np.zeros((8, 8, 3), np.uint8)
    write_pictures(tmp_path, [("old", image)])
    write_pictures(tmp_path, [("new", image)])
    assert [p.name for p in tmp_path.iterdir()] == ["new.png"]


def test_the_plot_is_an_image(tmp_path) -> None:
    path = tmp_path / "learning.png"
    plot_learning([Curve("fog", (0, 1, 2), (5.0, 4.0, 3.0))], SCORES, path)
    assert decode_image(path.read_bytes()).shape[2] == 3


def test_the_plot_stands_without_any_curve(tmp_path) -> None:
    plot_learning([], SCORES, tmp_path / "learning.png")
    assert (tmp_path / "learning.png").stat().st_size > 0
