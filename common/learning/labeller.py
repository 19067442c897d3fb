"""The labelling process: ``python -m common.learning.labeller``, started by an edge's daemon.

It runs the deployed detector on frames that are about to be recorded. What becomes of the detections is the
daemon's decision (:mod:`edge_node.labelling`). The messages are in :mod:`common.node.labelling_messages`.
"""

from __future__ import annotations

import contextlib
import sys
import traceback
from pathlib import Path

import torch
from pydantic import ValidationError

from common.errors import LearningError, MessageError, ResidualInrError
from common.images import ImageLimits, decode_image
from common.learning.detector import Detector, load_detector, resolve_device
from common.learning.letterbox import letterbox_content
from common.learning.settings import TrainingSettings
from common.learning.validation import letterbox_images
from common.learning.weights import read_weights
from common.learning.yolo_environment import prepare_yolo
from common.node.labelling_messages import Look, NotSeen, Seen, StartLabelling, from_map, to_map
from common.node.learning_messages import Stop
from common.node.niceness import make_way
from common.node.pipe import connect_parent

__all__ = ["Eye", "main"]


class Eye:
    """The detector in use, looking at one image at a time.

    Args:
        start: With what to look.
    """

    def __init__(self, start: StartLabelling) -> None:
        prepare_yolo(start.threads)
        self._start = start
        self._settings = TrainingSettings.model_validate(start.training)
        self._device = resolve_device(start.device)
        self._limits = ImageLimits(start.frame_pixels, start.frame_bytes)
        self._version: tuple[int, ...] = ()
        self._detector: Detector = None

    def look(self, detector: str, image: bytes) -> list[list[float]]:
        """What the detector sees in an encoded image, as in :class:`Seen`.

        Args:
            detector: Its safetensors file, read anew when it was replaced.
            image: The encoded image.

        Raises:
            LearningError: The weights are no detector of this deployment.
            ImageError: The image cannot be decoded.
        """
        from ultralytics.utils.nms import non_max_suppression

        model = self._in_use(Path(detector))
        rgb = decode_image(image, self._limits)
        imgsz = self._settings.imgsz
        top, left, height, width = letterbox_content(torch.tensor([rgb.shape[:2]]), imgsz)[0].tolist()
        square = torch.from_numpy(letterbox_images([rgb], imgsz))
        pixels = square.to(self._device).permute(0, 3, 1, 2).float() / 255
        with torch.no_grad():
            found = non_max_suppression(
                model(pixels), self._start.least_confidence, max_det=self._start.most_detections
            )[0].double()
        found[:, [0, 2]] = ((found[:, [0, 2]] - left) * (rgb.shape[1] / width)).clamp(0, rgb.shape[1])
        found[:, [1, 3]] = ((found[:, [1, 3]] - top) * (rgb.shape[0] / height)).clamp(0, rgb.shape[0])
        # A box in the letterbox's border shows nothing of the frame.
        inside = (found[:, 2] > found[:, 0]) & (found[:, 3] > found[:, 1])
        rows: list[list[float]] = found[inside].tolist()
        return rows

    def _in_use(self, path: Path) -> Detector:
        try:
            facts = path.stat()
        except OSError as error:
            raise LearningError(f"cannot read the detector {path}: {error.strerror}") from error
        version = facts.st_ino, facts.st_mtime_ns, facts.st_size
        if version != self._version:
            weights = read_weights(path)
            if weights.classes != self._settings.classes:
                raise LearningError(
                    f"the detector knows the classes {list(weights.classes)}, this node "
                    f"{list(self._settings.classes)}; use one class list on every node"
                )
            self._detector = load_detector(weights).to(self._device).float().eval()
            self._version = version
        return self._detector


def main() -> int:
    """Run until Stop or the daemon's end; 0 after a clean stop, 1 when it could not start."""
    pipe = connect_parent(**({"max_bytes": int(sys.argv[1])} if len(sys.argv) > 1 else {}))
    eye: Eye | None = None
    with contextlib.suppress(BrokenPipeError):
        while (value := pipe.receive()) is not None:
            match from_map(value):
                case StartLabelling() as start:
                    make_way(start.nice)
                    try:
                        eye = Eye(start)
                    except (ResidualInrError, ValidationError) as error:
                        sys.stderr.write(f"labeller: {_sentence(error)}\n")
                        return 1
                case Look(ticket, detector, image) if eye is not None:
                    pipe.send(to_map(_answer(eye, ticket, detector, image)))
                case Stop():
                    break
                case message:
                    raise MessageError(f"the labelling process has no use for {message.kind!r} now")
    return 0


def _answer(eye: Eye, ticket: int, detector: str, image: bytes) -> Seen | NotSeen:
    try:
        return Seen(ticket, eye.look(detector, image))
    except ResidualInrError as error:
        return NotSeen(ticket, _sentence(error))
    except Exception as error:  # one image that a library chokes on must not cost the process
        traceback.print_exc()
        return NotSeen(ticket, f"an unexpected {type(error).__name__}: {_sentence(error)}")


def _sentence(error: Exception) -> str:
    return " ".join(str(error).split())[:2000]


if __name__ == "__main__":
    raise SystemExit(main())
