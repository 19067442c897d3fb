"""How hard each frame is: found beside the training, from the predictions that are made anyway."""

import torch

from common.learning.detector import start_weights
from common.learning.frame_losses import FrameLosses
from common.learning.resident import ResidentStore
from common.learning.settings import TrainingSettings
from common.learning.trainer import train
from tests.learning_packets import scene_packet

SETTINGS = TrainingSettings(
    imgsz=64, batch=4, max_steps=4, epochs=4, device="cpu", hardness_steps=1, augmentation={"mosaic": 0.0}
)


def criterion(predictions, batch):
    """A sum over images of how far a prediction lies from a label, as a detector's criterion gives it."""
    targets = torch.zeros(len(predictions["scores"]))
    targets[batch["batch_idx"].long()] = batch["bboxes"][:, 0]
    errors = (predictions["scores"][:, 0] - targets).square() + predictions["feats"][0].mean((1, 2, 3))
    return errors.sum().reshape(1), {"all": errors.sum().detach()}


def test_each_image_has_the_loss_that_it_adds_to_the_sum():
    told = []
    watched = FrameLosses(criterion, 2, told.append)
    batch = {
        "img": torch.zeros(3, 3, 8, 8),
        "cls": torch.zeros(2, 1),
        "bboxes": torch.tensor([[0.5, 0, 0, 0], [0.25, 0, 0, 0]]),
        "batch_idx": torch.tensor([2.0, 0.0]),
    }
    predictions = {"scores": torch.tensor([[1.0], [0.5], [0.0]]), "feats": [torch.ones(3, 1, 2, 2)]}
    for _ in range(3):
        loss, _ = watched(predictions, batch)
        assert loss == criterion(predictions, batch)[0]
    assert len(told) == 2, "every second batch"
    assert told[0] == [1 + 0.75**2, 1 + 0.5**2, 1 + 0.5**2]
    with torch.no_grad():
        watched(predictions, batch)
        watched(predictions, batch)
    assert len(told) == 2, "evaluation tells nothing about training frames"


def test_a_training_finds_the_loss_of_every_frame_and_learns_the_same_with_and_without(tmp_path):
    weights = []
    for steps in (1, 0):
        settings = SETTINGS.model_copy(update={"hardness_steps": steps})
        store = ResidentStore("cpu", 1 << 24, settings)
        store.add([scene_packet(seed) for seed in range(8)])
        result = train(store, settings, start_weights(settings), tmp_path / str(steps))
        losses = [store.useful.loss(number) for number in range(8)]
        assert all(loss is not None and loss > 0 for loss in losses) == bool(steps)
        weights.append(result.weights.state)
    assert all(torch.equal(a, b) for a, b in zip(*(w.values() for w in weights), strict=True))
