"""The peer of the resident store: Ultralytics' own trainer and loader on the same frames as JPEG files.

Same detector, optimizer and augmentation as :class:`common.learning.resident_trainer.ResidentTrainer`; loader
workers of its own, nothing cached. Import it after ``prepare_yolo``.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ultralytics.models.yolo.detect import DetectionTrainer

from common.frame import Frame
from common.learning.settings import TrainingSettings

__all__ = ["PeerTrainer", "loader_seconds", "write_yolo_folder"]

COPIED = (
    *(
        "epochs",
        "batch",
        "nbs",
        "imgsz",
        "optimizer",
        "lr0",
        "lrf",
        "momentum",
        "weight_decay",
        "seed",
        "device",
    ),
    *("warmup_epochs", "close_mosaic", "deterministic", "amp", "val", "plots", "verbose", "patience"),
)
"""Arguments of our trainer that are the peer's as well."""


class PeerTrainer(DetectionTrainer):
    """Ultralytics' trainer on files.

    Args:
        ours: The trainer that it is compared with; it gives its arguments.
        detector: Model to train.
        settings: Those of ``ours``: augmentation and classes.
        data: data.yaml of :func:`write_yolo_folder`.
        workers: Loader workers.
    """

    model: Any

    def __init__(
        self, ours: Any, detector: Any, settings: TrainingSettings, data: Path, folder: Path, workers: int
    ) -> None:
        arguments = {name: getattr(ours.args, name) for name in COPIED}
        augmentation = settings.augmentation.model_dump(exclude={"close_mosaic"})
        files = {"data": str(data), "cache": False, "workers": workers, "save": False}
        place = {"project": str(folder), "name": "peer", "exist_ok": True, "model": "yolov8n.yaml"}
        super().__init__(overrides=arguments | augmentation | files | place)
        self.model = detector

    def get_dataloader(
        self, dataset_path: str, batch_size: int = 16, rank: int = 0, mode: str = "train"
    ) -> Any:
        """As Ultralytics', but a frame is forgotten when a batch later than its own is made.

        Its buffer for mosaics holds eight batches: few enough frames would all stay there, decoded.
        """
        loader = super().get_dataloader(dataset_path, batch_size, rank, mode)
        loader.dataset.max_buffer_length = min(batch_size, len(loader.dataset))
        return loader

    def validate(self) -> tuple[dict[str, float], None]:
        """What is measured is training."""
        return {}, None

    def final_eval(self) -> None:
        """As :meth:`validate`."""

    def save_metrics(self, metrics: dict[str, float]) -> None:
        """Nothing is kept."""


def write_yolo_folder(folder: Path, frames: Sequence[Frame], settings: TrainingSettings) -> Path:
    """Write frames as Ultralytics reads them; returns the path of data.yaml."""
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    for number, frame in enumerate(frames):
        (folder / "images" / f"{number:06d}.jpg").write_bytes(frame.image)
        rows = []
        for box in frame.boxes:
            x0, x1 = max(0.0, box.x0 / frame.width), min(1.0, box.x1 / frame.width)
            y0, y1 = max(0.0, box.y0 / frame.height), min(1.0, box.y1 / frame.height)
            place = ((x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0)
            rows.append(" ".join([str(settings.class_index(box.name)), *(f"{v:.6f}" for v in place)]))
        (folder / "labels" / f"{number:06d}.txt").write_text("\n".join(rows) + "\n")
    data = folder / "data.yaml"
    paths = {"path": str(folder.absolute()), "train": "images", "val": "images"}
    data.write_text(json.dumps(paths | {"names": list(settings.classes)}))  # JSON is YAML
    return data


def loader_seconds(trainer: Any) -> tuple[float, float]:
    """Processor seconds of one epoch's (decoding and resizing, augmentation), all in this process."""
    dataset = trainer.train_loader.dataset
    reading = augmenting = 0.0
    for number in range(len(dataset)):
        begin = time.process_time()
        labels = dataset.get_image_and_label(number)
        middle = time.process_time()
        dataset.transforms(labels)
        reading, augmenting = reading + middle - begin, augmenting + time.process_time() - middle
    return reading, augmenting
