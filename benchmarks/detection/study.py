"""One study of accuracy: a detector trained before, fine-tuned from several sources of pixels and seeds.

Everything that is made is kept: packets by encoder settings, weights and evaluations by everything that they
depend on but the program itself. A study that was stopped goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from common.bitstream import Packet, decode_packet
from common.errors import EncodeError, LearningError
from common.frame import Frame
from common.images import Rgb
from common.learning.batches import ViewDecoder, decode_views
from common.learning.detector import load_detector, resolve_device, start_weights
from common.learning.hooks import TrainerHooks
from common.learning.resident import ResidentStore
from common.learning.settings import TrainingSettings
from common.learning.trainer import discard_checkpoint, train
from common.learning.validation import ImageStatistics, ValidationSet, evaluate
from common.learning.weights import DetectorWeights, read_weights, write_weights
from decode_then_augment import DecodeThenAugment
from detection.pictures import PictureViews
from detection.region_jpeg import region_jpeg
from detection.split import Split
from fog_node.encoders.encoder import EncodedFrame, FrameEncoder
from fog_node.encoders.encoder_settings import PROFILES, EncoderSettings
from judge.protocol import pixels

__all__ = ["BEFORE", "ORIGINAL", "REGION_JPEG", "THEN_AUGMENT", "Source", "Study"]

BEFORE = "not fine-tuned"
"""Name of the detector before."""
ORIGINAL, REGION_JPEG, THEN_AUGMENT = "original", "region-jpeg", "-then-augment"
"""Arms beside the encoder's profiles; the last is the ending of a profile's second arm."""
CARRIER = "jpeg"
"""Profile whose packets carry the labels where the pixels come from elsewhere: the quickest to encode."""

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """Where the pixels of an arm come from.

    Attributes:
        packets: In the order of the frames.
        decode: What makes training batches.
        bytes: Bytes of each frame.
    """

    packets: tuple[Packet, ...]
    decode: ViewDecoder
    bytes: tuple[int, ...]


class Study:
    """Trains and judges.

    Args:
        split: The frames.
        before: Settings of the training before, on originals.
        tuning: Settings of fine-tuning; the seed is put in.
        encoder: Encoder settings; the profile is put in.
        reference: Profile whose packets say how many bytes region JPEG has for each frame.
        folder: Where everything is kept.
        report: Called with a few words before each thing that takes long.
    """

    def __init__(
        self,
        split: Split,
        before: TrainingSettings,
        tuning: TrainingSettings,
        encoder: EncoderSettings,
        reference: str,
        folder: Path,
        report: Progress = lambda words: None,
    ) -> None:
        self.split = split
        self._before = before
        self._tuning = tuning
        self._encoder = encoder
        self._reference = reference
        self._folder = folder
        self._report = report
        self._sources: dict[str, Source] = {}
        self.validation = ValidationSet(split.validation, tuning)
        if len(self.validation) < len(split.validation):
            raise LearningError(
                f"the validation image cannot be used: {self.validation.left_out[0]}; leave its sequence out"
            )

    def images_of(self, arm: str, seed: int) -> tuple[ImageStatistics, ...]:
        """What the detector that was fine-tuned from ``arm`` finds on each validation image.

        Args:
            arm: :data:`BEFORE`, :data:`ORIGINAL`, :data:`REGION_JPEG`, a profile, or a profile with
                :data:`THEN_AUGMENT`.
            seed: Of the order of frames and of augmentation; of no effect on :data:`BEFORE`.
        """
        seed = 0 if arm == BEFORE else seed
        path = self._folder / "runs" / self._key() / f"{arm.replace(' ', '-')}-{seed}.npz"
        found = _read(path)
        if found is not None:
            return found
        weights = self.before()
        if arm != BEFORE:
            source = self.source(arm)
            settings = self._tuning.model_copy(update={"seed": seed})
            weights = self._train(f"{arm}, seed {seed}", source, settings, weights)
        self._report(f"{arm}, seed {seed}: evaluating")
        device = resolve_device(self._tuning.device)
        (found_now,) = evaluate([load_detector(weights)], self.validation, self._tuning, device)
        _write(path, found_now.images)
        return found_now.images

    def before(self) -> DetectorWeights:
        """The detector before fine-tuning, trained on originals."""
        parts = [self._before.model_dump(mode="json"), [f.digest.hex() for f in self.split.before]]
        path = self._folder / "before" / f"{_digest(parts)}.safetensors"
        if path.is_file():
            return read_weights(path)
        source = self._originals(self.split.before)
        weights = self._train("before", source, self._before, start_weights(self._before))
        path.parent.mkdir(parents=True, exist_ok=True)
        write_weights(path, weights)
        return weights

    def source(self, arm: str) -> Source:
        """The frames for fine-tuning as ``arm`` has them; see :meth:`images_of`."""
        if arm not in self._sources:
            self._sources[arm] = self._make(arm)
        source = self._sources[arm]
        if arm.endswith(THEN_AUGMENT):
            # It draws colours from a generator of its own, which must begin anew with each training.
            return replace(source, decode=DecodeThenAugment(self._tuning))
        return source

    def _make(self, arm: str) -> Source:
        frames = self.split.new
        if arm == ORIGINAL:
            return self._originals(frames)
        if arm == REGION_JPEG:
            return self._region_jpegs(frames)
        profile = arm.removesuffix(THEN_AUGMENT)
        if profile not in PROFILES:
            raise LearningError(f"there is no arm {arm!r}")
        files = self._packets(profile, frames)
        return Source(tuple(map(decode_packet, files)), decode_views, tuple(map(len, files)))

    def _originals(self, frames: Sequence[Frame]) -> Source:
        carriers = tuple(map(decode_packet, self._packets(CARRIER, frames)))
        pictures = [pixels(frame, self._encoder.width)[0] for frame in frames]
        return Source(carriers, PictureViews(pictures), tuple(len(frame.image) for frame in frames))

    def _region_jpegs(self, frames: Sequence[Frame]) -> Source:
        reference = self.source(self._reference)
        made: list[tuple[Rgb, int]] = []
        for place, (frame, budget) in enumerate(zip(frames, reference.bytes, strict=True)):
            self._report(f"region JPEG {place + 1} of {len(frames)}")
            made.append(region_jpeg(*pixels(frame, self._encoder.width), budget, self._encoder.object_psnr))
        pictures = [picture for picture, _ in made]
        return Source(reference.packets, PictureViews(pictures), tuple(size for _, size in made))

    def _packets(self, profile: str, frames: Sequence[Frame]) -> list[bytes]:
        settings = EncoderSettings.model_validate(self._encoder.model_dump() | {"profile": profile})
        folder = self._folder / "packets" / f"{profile}-{_digest(settings.model_dump(mode='json'))}"
        folder.mkdir(parents=True, exist_ok=True)
        encoder: FrameEncoder | None = None
        files = []
        for place, frame in enumerate(frames):
            path = folder / f"{_digest([frame.name, frame.digest.hex(), repr(frame.boxes)])}.rinr"
            if not path.is_file():
                self._report(f"{profile}: encoding frame {place + 1} of {len(frames)}")
                encoder = encoder or FrameEncoder(settings, self._tuning.device, self._tuning.threads)
                (result,) = encoder.encode([frame])
                if not isinstance(result, EncodedFrame):
                    raise EncodeError(f"{frame.name} cannot be encoded as {profile}: {result.reason}")
                part = path.with_suffix(".part")
                part.write_bytes(result.packet)
                part.replace(path)
            files.append(path.read_bytes())
        return files

    def _train(
        self, title: str, source: Source, settings: TrainingSettings, start: DetectorWeights
    ) -> DetectorWeights:
        store = ResidentStore(resolve_device(settings.device), settings.memory_bytes, settings)
        store.add(source.packets)
        if len(store) < len(source.packets):
            raise LearningError(f"{title}: only {len(store)} of {len(source.packets)} frames can be used")
        hooks = TrainerHooks(
            on_step=lambda step, steps, loss: self._report(
                f"{title}: step {step} of {steps}, loss {loss:.2f}"
            )
        )
        with tempfile.TemporaryDirectory() as folder:
            result = train(store, settings, start, Path(folder), hooks, source.decode)
            discard_checkpoint(Path(folder))
        return result.weights

    def _key(self) -> str:
        frames = (self.split.before, self.split.new, self.split.validation)
        return _digest(
            [
                *(settings.model_dump(mode="json") for settings in (self._before, self._tuning)),
                self._encoder.model_dump(mode="json"),
                self._reference,
                [[frame.digest.hex() for frame in part] for part in frames],
            ]
        )


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def _write(path: Path, images: Sequence[ImageStatistics]) -> None:
    """Keep the statistics of images; the file is there wholly or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name("part.npz")
    np.savez_compressed(
        part,
        tp=np.concatenate([image.tp.reshape(-1, 10) for image in images]),
        conf=np.concatenate([image.conf for image in images]),
        pred_cls=np.concatenate([image.pred_cls for image in images]),
        target_cls=np.concatenate([image.target_cls for image in images]),
        counts=np.array([(len(image.conf), len(image.target_cls)) for image in images]),
    )
    part.replace(path)


def _read(path: Path) -> tuple[ImageStatistics, ...] | None:
    if not path.is_file():
        return None
    with np.load(path) as data:
        detections, targets = (column.cumsum()[:-1] for column in data["counts"].T)
        columns = [np.split(data[name], detections) for name in ("tp", "conf", "pred_cls")]
        labels = np.split(data["target_cls"], targets)
    return tuple(ImageStatistics(*row) for row in zip(*columns, labels, strict=True))
