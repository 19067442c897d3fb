"""Training in several processes: each has its own store, together they do what one would."""

import pytest
import torch
from pydantic import ValidationError

from common.bitstream import encode_packet
from common.errors import LearningError
from common.learning.detector import load_detector, start_weights
from common.learning.hooks import TrainerHooks
from common.learning.parallel import ParallelPlan, read_plan, train_parallel
from common.learning.resident import ResidentStore
from common.learning.sampler import EpochSampler
from common.learning.settings import TrainingSettings
from common.learning.trainer import train
from tests.learning_packets import scene_packet

SETTINGS = TrainingSettings(
    imgsz=64, batch=4, epochs=2, device="cpu:2", learning_rate=1e-4, seed=1, checkpoint_seconds=0
)


def files_in(folder, count):
    folder.mkdir()
    found = []
    for i in range(count):
        found.append(folder / f"{i}.rinr")
        found[-1].write_bytes(encode_packet(scene_packet(i)))
    return found


@pytest.mark.parametrize(
    ("given", "devices"),
    [
        ("cuda:0,1", ("cuda:0", "cuda:1")),
        ([0, 1, 3], ("cuda:0", "cuda:1", "cuda:3")),
        ("cuda:1", ("cuda:1",)),
        ("cuda", ("cuda",)),
        ("auto", ("auto",)),
        ("cpu", ("cpu",)),
        ("cpu:2", ("cpu", "cpu")),
    ],
)
def test_several_devices_are_named_as_ultralytics_names_them(given, devices):
    assert TrainingSettings(device=given).devices == devices


@pytest.mark.parametrize("given", ["cuda:0,0", "cuda:", "cpu:1", [], ["a"], [-1], [True, 1], "0,1"])
def test_wrong_devices_are_refused(given):
    with pytest.raises(ValidationError):
        TrainingSettings(device=given)


def test_the_shares_of_the_processes_are_the_batch():
    from common.learning.parallel_trainer import RankSampler

    store = ResidentStore("cpu", 1 << 24, SETTINGS)
    store.add([scene_packet(i) for i in range(9)])
    whole = EpochSampler(store, 4, 7)
    for epoch in range(3):
        shares = [list(RankSampler(whole, rank, 2).epoch(epoch)) for rank in range(2)]
        for batch, *parts in zip(whole.epoch(epoch), *shares, strict=True):
            together = torch.cat(parts).tolist()
            # The last batch has one frame, which both get: neither may be without.
            assert set(together) == set(batch.tolist())
            assert len(together) == max(2, len(batch))


def test_a_plan_comes_back_as_it_was_written(tmp_path):
    plan = ParallelPlan(SETTINGS, tmp_path, "abc", (tmp_path / "a.rinr",), tmp_path / "store", 12, 34)
    (tmp_path / "plan.json").write_bytes(plan.to_json())
    assert read_plan(tmp_path / "plan.json") == plan
    (tmp_path / "plan.json").write_bytes(b"{}")
    with pytest.raises(LearningError, match="no plan"):
        read_plan(tmp_path / "plan.json")


def test_two_processes_learn_what_one_does(tmp_path, monkeypatch):
    # A folder of the same name where the node was started is none of ours.
    (tmp_path / "common").mkdir()
    (tmp_path / "common" / "__init__.py").write_text("raise RuntimeError('another one')")
    monkeypatch.chdir(tmp_path)
    settings = SETTINGS.model_copy(update={"epochs": 1})
    files, start, seen = files_in(tmp_path / "packets", 8), start_weights(settings), []
    hooks = TrainerHooks(on_step=lambda *step: seen.append(step))
    result = train_parallel(settings, start, tmp_path / "two", hooks, packets=files)
    assert (result.steps, result.epochs, result.interrupted) == (2, 1, False)
    assert result.losses == ("box", "class", "distribution")
    assert torch.isfinite(result.curve).all()
    left = {file.name for file in (tmp_path / "two").iterdir()}
    assert left == {"checkpoint.safetensors", "ultralytics"}
    load_detector(result.weights)
    store = ResidentStore("cpu", 1 << 24, settings)
    store.add([scene_packet(i) for i in range(8)])
    alone = train(store, settings.model_copy(update={"device": "cpu"}), start, tmp_path / "one")
    # Batch normalization sees half of a batch in each process, so the weights are close, not equal.
    name = "model.22.cv2.0.2.bias"
    moved, together = (r.weights.state[name] - start.state[name] for r in (alone, result))
    assert torch.nn.functional.cosine_similarity(moved, together, dim=0) > 0.7


@pytest.mark.slow
def test_processes_stop_together_and_go_on_from_their_checkpoint(tmp_path):
    files, start = files_in(tmp_path / "packets", 8), start_weights(SETTINGS)
    settings = SETTINGS.model_copy(update={"epochs": 400})
    seen = []
    hooks = TrainerHooks(on_step=lambda *step: seen.append(step), should_stop=lambda: bool(seen))
    part = train_parallel(settings, start, tmp_path / "work", hooks, packets=files)
    assert part.interrupted
    assert 0 < part.steps < 800
    hooks = TrainerHooks(
        on_step=lambda *step: seen.append(step), should_stop=lambda: seen[-1][0] > part.steps
    )
    rest = train_parallel(settings, start, tmp_path / "work", hooks, packets=files)
    assert rest.steps > part.steps
    assert torch.equal(rest.curve[: part.steps], part.curve)


@pytest.mark.slow
def test_an_error_in_a_process_is_its_sentence(tmp_path):
    files = files_in(tmp_path / "packets", 1)
    settings = SETTINGS.model_copy(update={"classes": ("car",)})
    start = start_weights(settings)
    with pytest.raises(LearningError, match="class 'object'"):
        train_parallel(settings, start, tmp_path / "work", packets=files)


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
def test_two_gpus_learn(tmp_path):
    settings = SETTINGS.model_copy(update={"device": "cuda:0,1"})
    result = train_parallel(
        settings, start_weights(settings), tmp_path / "two", packets=files_in(tmp_path / "packets", 8)
    )
    assert (result.steps, result.epochs) == (4, 2)
    assert torch.isfinite(result.curve).all()
