"""Checkpoints of a training under way: safetensors, so that nothing is ever unpickled."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from common.errors import LearningError
from common.learning.weights import write_durably

__all__ = ["CHECKPOINT", "Checkpoint", "load_optimizer", "read_checkpoint", "write_checkpoint"]

CHECKPOINT = "checkpoint.safetensors"
"""Name of the checkpoint in a training's work folder."""
FORMAT = "residual-inr-checkpoint-1"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Where a training stands.

    Attributes:
        round_id: Names the training: same settings, same start weights. Another training starts afresh.
        next_epoch: Epoch to go on with, from 0.
        steps: Optimizer steps done.
        seconds: Time spent training, seconds.
        ema_updates: Updates of the averaged weights.
        model, ema: States of the detector and of its average.
        optimizer: State of each parameter by index.
        curve: (steps, losses) float32, the loss items of every step.
        losses: Their names; empty in checkpoints of earlier versions.
    """

    round_id: str
    next_epoch: int
    steps: int
    seconds: float
    ema_updates: int
    model: Mapping[str, Tensor]
    ema: Mapping[str, Tensor]
    optimizer: Mapping[int, Mapping[str, Tensor]]
    curve: Tensor
    losses: tuple[str, ...] = ()


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Replace the checkpoint durably.

    Raises:
        LearningError: It cannot be written.
    """
    tensors = {f"model/{k}": v for k, v in checkpoint.model.items()}
    tensors |= {f"ema/{k}": v for k, v in checkpoint.ema.items()}
    for index, state in checkpoint.optimizer.items():
        tensors |= {f"optimizer/{index}/{k}": v for k, v in state.items()}
    tensors["curve"] = checkpoint.curve
    numbers = {
        "round_id": checkpoint.round_id,
        "next_epoch": checkpoint.next_epoch,
        "steps": checkpoint.steps,
        "seconds": checkpoint.seconds,
        "ema_updates": checkpoint.ema_updates,
        "losses": checkpoint.losses,
    }
    tensors = {k: v.detach().to("cpu", copy=True).contiguous() for k, v in tensors.items()}
    write_durably(path, save(tensors, {FORMAT: json.dumps(numbers)}))


def read_checkpoint(path: Path, round_id: str) -> Checkpoint | None:
    """The checkpoint of this training; None when there is none, it is another's, or it is damaged.

    Training then starts afresh, which is always right, only slower.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            numbers: dict[str, Any] = json.loads(metadata.get(FORMAT, "{}"))
            numbers["losses"] = tuple(numbers.get("losses", ()))
            if numbers.get("round_id") != round_id:
                return None
            tensors: dict[str, Tensor] = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (OSError, ValueError, SafetensorError):
        return None
    optimizer: dict[int, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        if key.startswith("optimizer/"):
            _, index, name = key.split("/", 2)
            optimizer.setdefault(int(index), {})[name] = tensor
    return Checkpoint(
        model=_part(tensors, "model/"),
        ema=_part(tensors, "ema/"),
        optimizer=optimizer,
        curve=tensors.get("curve", torch.empty(0, 0)),
        **numbers,
    )


def load_optimizer(optimizer: torch.optim.Optimizer, state: Mapping[int, Mapping[str, Tensor]]) -> None:
    """Put the state of each parameter back; learning rates stay those of the schedule.

    Raises:
        LearningError: The state is of another detector.
    """
    count = sum(len(group["params"]) for group in optimizer.param_groups)
    if state and max(state) >= count:
        raise LearningError("the checkpoint's optimizer state is of another detector; delete the checkpoint")
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": {i: dict(s) for i, s in state.items()}, "param_groups": groups})


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
