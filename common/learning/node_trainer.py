"""What a node's trainer does: follow the store, train a round, judge weights."""

from __future__ import annotations

import contextlib
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.bitstream import Packet, decode_packet
from common.errors import LearningError, PacketError
from common.learning.agreement import recall
from common.learning.detector import load_detector, resolve_device, start_weights
from common.learning.gate import GateDecision, decide
from common.learning.hooks import TrainerHooks
from common.learning.offers import KnownLabels
from common.learning.parallel import train_parallel
from common.learning.resident import ResidentStore
from common.learning.settings import TrainingSettings
from common.learning.trainer import TrainingResult, discard_checkpoint, train
from common.learning.validation import Evaluation, ValidationSet, evaluate
from common.learning.weights import DetectorWeights, check_shapes, read_weights, write_durably, write_weights
from common.learning.yolo_environment import prepare_yolo
from common.store.contract import TrainingView
from common.store.corrections import Correction

__all__ = ["NodeTrainer", "Outcome"]

PACKETS_AT_A_TIME = 16
"""Packets taken over between two training steps, so that a long backlog does not hold up training: decoding
the integers of one takes some 50 ms."""


ROUND = "round.json"
"""File in the trainer's folder that says what the last round knew."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of a round or a judgement.

    Attributes:
        decision: The gate's.
        weights: The file that was trained or judged.
        metrics: Figures by name.
    """

    decision: GateDecision
    weights: Path
    metrics: dict[str, Any]


class NodeTrainer:
    """Trains on a node's store.

    Args:
        view: The node's store.
        work_dir: Folder for checkpoints and weights.
        settings: The node's.
        store: The folder of the store, which several processes open; only needed for several devices.
    """

    def __init__(
        self, view: TrainingView, work_dir: Path, settings: TrainingSettings, store: Path | None = None
    ) -> None:
        prepare_yolo(settings.threads)
        work_dir.mkdir(parents=True, exist_ok=True)
        self.settings = settings
        self.device = resolve_device(settings.devices[0])
        self._store_path = store
        self.store = ResidentStore(self.device, settings.memory_bytes, settings, settings.when_full, work_dir)
        self.position = 0
        self.left_out = 0
        self._corrected_to = 0
        self._round_position = _read_position(work_dir / ROUND)
        self._view = view
        self._work_dir = work_dir
        self._expected: DetectorWeights | None = None
        self._named: set[str] = set()

    def catch_up(
        self,
        limit: int | None = None,
        should_stop: Callable[[], bool] = lambda: False,
        until: int | None = None,
    ) -> int:
        """Take over at most ``limit`` packets that the store has since got; returns how many there were.

        A packet that cannot be used is left out with a line on stderr: training goes on without it.

        Args:
            limit: None: all of them.
            should_stop: Asked every few packets, since thousands of pyramids take minutes.
            until: Last position taken over; None: no such limit.
        """
        taken = 0
        while (limit is None or taken < limit) and not should_stop():
            count = PACKETS_AT_A_TIME if limit is None else min(limit - taken, PACKETS_AT_A_TIME)
            found = self._view.packets_after(self.position, count)
            found = [item for item in found if until is None or item[0] <= until]
            if not found:
                self._follow_corrections()
                break
            packets: list[tuple[int, Packet]] = []
            for position, data in found:
                self.position = position
                try:
                    packets.append((position, decode_packet(data)))
                except PacketError as error:
                    self._leave_out(position, error)
            before = [item for item in packets if item[0] <= self._round_position]
            self._take(before)
            if len(before) < len(packets) and self.store.new_from == 0:
                # The first that came after the last round began, which an earlier process trained.
                self.store.new_from = self.store.end
            self._take(packets[len(before) :])
            taken += len(found)
        return taken

    def _follow_corrections(self) -> None:
        """Put corrected labels in the place of those of resident frames."""
        while found := self._view.corrections_after(self._corrected_to, PACKETS_AT_A_TIME):
            for position, correction in found:
                self._corrected_to = position
                newest = self._view.correction(correction.identity)
                if newest is not None and newest.revision == correction.revision:
                    try:
                        self._correct(correction)
                    except (LearningError, PacketError) as error:
                        self._leave_out(position, error)

    def _correct(self, correction: Correction) -> None:
        labels = _labels_of(correction)
        number = self.store.number_of(correction.identity)
        if number is not None and not labels.labelled:
            self.store.remove([number])
        elif number is not None:
            self.store.relabel(number, labels)
        elif labels.labelled:
            # It was unlabelled until now, or evicted.
            data = self._view.packet_of(correction.identity)
            if data is not None:
                packet = decode_packet(data)
                self.store.add([packet], self._keyframes([(0, packet)]), {0: labels})

    def _take(self, packets: Sequence[tuple[int, Packet]]) -> None:
        """Take packets over; those that cannot be used are left out."""
        keyframes = self._keyframes(packets)
        try:
            self._add(packets, keyframes)
        except LearningError:
            # One label of an unknown class: find it, and keep the others.
            for position, packet in packets:
                try:
                    self._add([(position, packet)], keyframes)
                except LearningError as error:
                    self._leave_out(position, error)

    def _add(self, packets: Sequence[tuple[int, Packet]], keyframes: Mapping[bytes, Packet]) -> None:
        corrected = {}
        for place, (_, packet) in enumerate(packets):
            found = None if packet.identity is None else self._view.correction(packet.identity)
            if found is not None:
                corrected[place] = _labels_of(found)
        added = self.store.add([packet for _, packet in packets], keyframes, corrected)
        for place, sentence in added.damaged:
            self._leave_out(packets[place][0], sentence)

    def _keyframes(self, packets: Sequence[tuple[int, Packet]]) -> dict[bytes, Packet]:
        """Those to which ``packets`` refer, by content hash, as far as the node's store has them."""
        keyframes = {}
        for digest in {packet.keyframe for _, packet in packets if packet.keyframe is not None}:
            data = self._view.packet(digest)
            try:
                if data is not None:
                    keyframes[digest] = decode_packet(data)
            except PacketError as error:
                sys.stderr.write(f"trainer: the keyframe {digest.hex()[:16]} cannot be used: {error}\n")
        return keyframes

    def validation(self) -> ValidationSet:
        """The validation originals at hand now; those that cannot be used are left out and named once."""
        validation = ValidationSet(
            self._view.validation_originals(self.settings.validation_images), self.settings
        )
        self._name(validation.left_out)
        return validation

    def train_round(self, current: str | None, hooks: TrainerHooks) -> Outcome | None:
        """Train from the detector in use, compare with it, write the weights; None when interrupted.

        Raises:
            LearningError: Nothing to train on, bad weights, or the training diverged.
        """
        before = self._in_use(current) if current else None
        start = before or self._fresh_start(current)
        position, end = self.position, self.store.end
        if len(self.settings.devices) > 1:
            result = train_parallel(
                self.settings, start, self._work_dir, hooks, store=self._store_path, position=position
            )
        else:
            result = train(self.store, self.settings, start, self._work_dir, hooks)
        if result.interrupted:
            return None
        self.store.new_from, self._round_position = end, position
        write_durably(self._work_dir / ROUND, json.dumps({"position": position}).encode())
        path = self._work_dir / "trained.safetensors"
        size = write_weights(path, result.weights, half=self.settings.half_weights)
        # Judge what will be deployed: the weights as they are in the file.
        decision, metrics = self._compare(before, read_weights(path), start)
        metrics |= {
            "steps": result.steps,
            "epochs": result.epochs,
            "seconds": result.seconds,
            "frames": len(self.store),
            "resident_bytes": self.store.nbytes,
            "frames_aside": 0 if self.store.aside is None else len(self.store.aside),
            "weights_bytes": size,
            "curve": str(self._write_curve(result)),
        }
        if result.decode_frames_per_second is not None:
            metrics["decode_frames_per_second"] = result.decode_frames_per_second
        bounded = self.settings.max_steps is not None or self.settings.max_seconds is not None
        if result.training_frames_per_second is not None and not bounded:
            # Of a round that a limit cuts short, the frames do not tell the length.
            metrics["training_frames_per_second"] = result.training_frames_per_second
        discard_checkpoint(self._work_dir)
        return Outcome(decision, path, metrics)

    def judge(self, weights: str, current: str | None) -> Outcome:
        """Compare received weights with the detector in use.

        Raises:
            LearningError: The weights are no detector of this deployment.
        """
        candidate = self._read(weights)
        before = self._in_use(current) if current else None
        decision, metrics = self._compare(before, candidate, before)
        return Outcome(decision, Path(weights), metrics)

    def agreement(self, detector: str) -> float | None:
        """Share of the labelled boxes of the newest frames that the detector in use finds.

        None without boxes, and for a detector of other classes.

        Raises:
            LearningError: The file is no detector.
        """
        weights = self._in_use(detector)
        newest = self.store.numbers[-self.settings.check_frames :]
        return None if weights is None else recall(load_detector(weights), self.store, newest, self.settings)

    def review(self, detector: str, previous: str) -> tuple[bool, str, dict[str, Any]]:
        """Whether the detector before the one in use is better on the validation frames at hand now.

        Returns:
            Whether it is to come back, why, and its figures.

        Raises:
            LearningError: The files are no detectors.
        """
        current, before = self._in_use(detector), self._in_use(previous)
        if current is None or before is None:
            return False, "kept: the two detectors are of other classes or models", {}
        decision, metrics = self._compare(current, before, current)
        back = decision.low is not None and decision.low > 0
        reason = (
            f"{'rolled back' if back else 'kept'}: on the validation frames now the detector before has "
            f"mAP50-95 {metrics['map50_95']:.3f}, the one in use {metrics['baseline_map50_95']:.3f}"
        )
        return back, reason, metrics

    def _own(self) -> DetectorWeights:
        """A detector as the settings describe it."""
        if self._expected is None:
            self._expected = start_weights(self.settings)
        return self._expected

    def _in_use(self, path: str) -> DetectorWeights | None:
        """A detector deployed on this node; None when it was for other classes or another model."""
        weights = read_weights(path)
        if weights.classes == self.settings.classes:
            with contextlib.suppress(LearningError):
                check_shapes({k: v.shape for k, v in weights.state.items()}, self._own().state)
                return weights
        self._name_once(
            f"the detector in use is {weights.model} for the classes {list(weights.classes)}, the settings "
            f"say {self._own().model} for {list(self.settings.classes)}: the next one is not compared with it"
        )
        return None

    def _fresh_start(self, current: str | None) -> DetectorWeights:
        """What the first detector of this class list starts from: if it can, from the one in use."""
        if current is not None and read_weights(current).model == self._own().model:
            return start_weights(self.settings.model_copy(update={"model": current}), _tell)
        return start_weights(self.settings, _tell)

    def _read(self, path: str) -> DetectorWeights:
        """Weights of this deployment's detector and classes, checked before a tensor is read."""
        weights = read_weights(path, self._own().state)
        if weights.classes != self.settings.classes:
            raise LearningError(
                f"the weights know the classes {list(weights.classes)}, "
                f"this node {list(self.settings.classes)}; use one class list on every node"
            )
        return weights

    def _compare(
        self, current: DetectorWeights | None, candidate: DetectorWeights, baseline: DetectorWeights | None
    ) -> tuple[GateDecision, dict[str, Any]]:
        """The gate's decision on ``candidate``, and the figures of ``candidate`` and ``baseline``."""
        validation = self.validation()
        before: Evaluation | None = None
        if len(validation) == 0:
            after = Evaluation(0.0, 0.0, 0.0, 0.0, ())
        else:
            detectors = [load_detector(w) for w in (candidate, baseline) if w is not None]
            after, *rest = evaluate(detectors, validation, self.settings, self.device)
            before = rest[0] if rest else None
            self._name(validation.left_out)
        decision = decide(before if current is not None else None, after, self.settings.gate)
        metrics = {
            "map50": after.map50,
            "map50_95": after.map50_95,
            "baseline_map50": before.map50 if before else 0.0,
            "baseline_map50_95": before.map50_95 if before else 0.0,
            "images": len(validation),
            "validation_boxes": validation.boxes,
        }
        return decision, metrics

    def _write_curve(self, result: TrainingResult) -> Path:
        """The loss items of every step, for plots; replaced by the next round."""
        path = self._work_dir / "curve.json"
        rows = [[round(v, 5) if math.isfinite(v) else None for v in row] for row in result.curve.tolist()]
        write_durably(path, json.dumps({"losses": result.losses, "steps": rows}).encode())
        return path

    def _name(self, left_out: Sequence[str]) -> None:
        for sentence in left_out:
            self._name_once(f"left out: {sentence}")

    def _name_once(self, sentence: str) -> None:
        if sentence not in self._named:
            self._named.add(sentence)
            _tell(sentence)

    def _leave_out(self, position: int, error: Exception | str) -> None:
        self.left_out += 1
        sys.stderr.write(f"trainer: left out the packet at position {position}: {error}\n")


def _tell(sentence: str) -> None:
    sys.stderr.write(f"trainer: {sentence}\n")


def _read_position(path: Path) -> int:
    """Position of the store when the last round began; 0 before the first, or when the file is damaged."""
    try:
        return int(json.loads(path.read_bytes())["position"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0


def _labels_of(correction: Correction) -> KnownLabels:
    return KnownLabels(correction.labelled, correction.boxes, correction.width, correction.height)
