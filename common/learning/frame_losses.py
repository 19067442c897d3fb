"""The loss of each frame of a batch, so that hard frames are kept; Ultralytics gives sums over batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

__all__ = ["FrameLosses"]

Criterion: TypeAlias = Callable[[Any, dict[str, Any]], tuple[Tensor, dict[str, Tensor]]]


class FrameLosses:
    """A detector's criterion that now and then also finds the loss of each image.

    It asks the criterion about one image at a time, with the predictions that were made anyway: what it takes
    is a fraction of the network's own time, and nothing about the training changes.

    Args:
        criterion: Ultralytics' own, of (predictions, batch).
        every: Batches from one whose images are looked at to the next.
        tell: Given the loss of each image of such a batch, (B,) float32 on the host.
    """

    def __init__(self, criterion: Criterion, every: int, tell: Callable[[Sequence[float]], None]) -> None:
        self._criterion = criterion
        self._every = every
        self._tell = tell
        self._batches = 0

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._criterion, name)

    def __call__(self, predictions: Any, batch: dict[str, Any]) -> tuple[Tensor, dict[str, Tensor]]:
        """As the criterion."""
        result = self._criterion(predictions, batch)
        # Evaluation asks without gradients.
        if torch.is_grad_enabled():
            if self._batches % self._every == 0:
                self._tell(self._each(predictions, batch))
            self._batches += 1
        return result

    def _each(self, predictions: Any, batch: dict[str, Any]) -> list[float]:
        losses = []
        with torch.no_grad():
            for image in range(len(batch["img"])):
                mine = batch["batch_idx"].view(-1) == image
                part = {key: batch[key][mine] for key in ("cls", "bboxes")}
                part |= {
                    "batch_idx": torch.zeros_like(batch["batch_idx"][mine]),
                    "img": batch["img"][image:][:1],
                }
                losses.append(self._criterion(_of_image(predictions, image), part)[0].sum())
            return [float(loss) for loss in torch.stack(losses).tolist()]


def _of_image(predictions: Any, image: int) -> Any:
    """What a detector predicts for one image of a batch."""
    match predictions:
        case Tensor():
            return predictions[image : image + 1]
        case dict():
            return {key: _of_image(value, image) for key, value in predictions.items()}
        case list() | tuple():
            return type(predictions)(_of_image(value, image) for value in predictions)
    return predictions
