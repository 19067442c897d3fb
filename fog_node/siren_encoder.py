"""Frames to networks: background SIRENs, then the residuals of their boxes, fitted in batches."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from common.bitstream import Network, ObjectPatch
from common.inr.compose import owners
from common.inr.decode import compose_packets
from common.inr.groups import NetworkGroup
from common.inr.siren import Architecture
from fog_node.encoder_settings import EncoderSettings
from fog_node.encoder_work import Work
from fog_node.ladder import Climb, Deadline, Goal, architectures, psnr_db
from fog_node.size_choice import background_rung, object_rung

__all__ = ["SirenEncoder"]

MARGIN_DB = 0.03
"""Aim above the target: rounding to 8 bits costs up to this much, and the target is judged after it."""
BACKGROUND_SHARE = 0.7
"""Share of the time budget for backgrounds when a batch has boxes; the rest is for objects."""
WARM_DEVICES = 1024
"""Devices whose last background is remembered; the least recently seen is forgotten."""
WARM_WITHIN_DB = 6.0
"""A previous background is close enough to start from when it is at most this far below the target."""


class SirenEncoder:
    """Fits networks to frames of any devices in batches; remembers each device's last background.

    Args:
        settings: Targets, sizes and budgets.
        device: Where to fit.
    """

    def __init__(self, settings: EncoderSettings, device: torch.device) -> None:
        self._settings = settings
        self.device = device
        self._generator = torch.Generator().manual_seed(settings.seed)
        self._last: OrderedDict[str, tuple[int, int, Network]] = OrderedDict()

    def encode(self, items: Sequence[Work], deadline: Deadline) -> None:
        """Fill the background and the objects of every item."""
        self._fit_backgrounds(items, deadline)
        self._fit_objects(items, deadline)

    def _fit_backgrounds(self, items: Sequence[Work], deadline: Deadline) -> None:
        settings = self._settings
        target = 10 ** (-(settings.background_psnr + MARGIN_DB) / 10)
        climb = Climb(settings.background, settings.w0, self._generator, self.device)
        sizes = architectures(settings.background)
        goals = []
        for item in items:
            rows = self._background_rows(item)
            start = self._warm_start(item, rows)
            if start is not None:
                rung = sizes.index(Architecture(start.width, start.depth))
            else:
                rung = background_rung(item.image, settings.background_psnr, sizes)
            goals.append(Goal(rows, target, 0.5, rung, start))
        share = BACKGROUND_SHARE if any(item.boxes for item in items) else 1.0
        fitted = climb.run(goals, Deadline(deadline.left * share))
        for item, result in zip(items, fitted, strict=True):
            item.background = result.network
            device = item.frame.identity.device if item.frame.identity else ""
            if result.network is not None:
                height, width = item.image.shape[:2]
                self._last[device] = (height, width, result.network)
                self._last.move_to_end(device)
                if len(self._last) > WARM_DEVICES:
                    self._last.popitem(last=False)

    def _background_rows(self, item: Work) -> Tensor:
        """Samples of a whole frame; pixels inside boxes are fitted but not measured."""
        height, width = item.image.shape[:2]
        counts = np.ones((height, width), np.float32)
        for x0, y0, x1, y1 in item.regions:
            counts[y0:y1, x0:x1] = 0
        if not counts.any():
            counts[:] = 1
        xy = _grid(height, width)
        rgb = torch.from_numpy(item.image.reshape(-1, 3)).float() / 127.5 - 1
        rows = torch.cat([xy, rgb, torch.from_numpy(counts.reshape(-1, 1))], 1)
        return rows.to(self.device)

    def _warm_start(self, item: Work, rows: Tensor) -> Network | None:
        """The device's previous background, when it is already close to this frame."""
        device = item.frame.identity.device if item.frame.identity else ""
        last = self._last.get(device)
        if not self._settings.warm_start or last is None or last[:2] != item.image.shape[:2]:
            return None
        network = last[2]
        stack = NetworkGroup.pack([network], self.device).dequantize()
        with torch.no_grad():
            some = rows[:: max(1, len(rows) // 4096)]
            output = stack.forward(some[:, :2].T.contiguous())[0].T
            error = float((output - some[:, 2:5]).square().mean()) / 4
        close = psnr_db(error) > self._settings.background_psnr - WARM_WITHIN_DB
        return network if close else None

    def _fit_objects(self, items: Sequence[Work], deadline: Deadline) -> None:
        """Fit the residual of every box that its background leaves below the target."""
        settings = self._settings
        target_db = settings.object_psnr + MARGIN_DB
        sizes = architectures(settings.object)
        target = 10 ** (-target_db / 10)
        goals: list[Goal] = []
        keys: list[tuple[int, int]] = []
        for number, item in enumerate(items):
            packet = item.packet(settings.profile)
            base = compose_packets([packet], device=self.device)[0].permute(1, 2, 0).cpu().numpy()
            error = item.image.astype(np.float32) / 255 - base
            before = [
                psnr_db(float(np.square(error[y0:y1, x0:x1]).mean())) for x0, y0, x1, y1 in item.regions
            ]
            needed = [index for index, db in enumerate(before) if db < target_db]
            owner = owners([item.regions[i] for i in needed], *item.image.shape[:2])
            for place, index in enumerate(needed):
                x0, y0, x1, y1 = item.regions[index]
                mine = (owner[y0:y1, x0:x1] == place).reshape(-1)
                if not mine.any():
                    continue
                residual = error[y0:y1, x0:x1].reshape(-1, 3)[mine]
                unit = float(np.float32(np.abs(residual).max()))
                rows = self._object_rows(y1 - y0, x1 - x0, mine, residual / unit)
                rung = object_rung(int(mine.sum()), target_db - before[index], sizes)
                goals.append(Goal(rows, target, unit, rung))
                keys.append((number, index))
        climb = Climb(settings.object, settings.w0, self._generator, self.device)
        for (number, index), goal, result in zip(keys, goals, climb.run(goals, deadline), strict=True):
            if result.network is not None:
                items[number].objects[index] = ObjectPatch(index, goal.unit, result.network)

    def _object_rows(self, height: int, width: int, mine: np.ndarray, residual: np.ndarray) -> Tensor:
        xy = _grid(height, width)[torch.from_numpy(mine)]
        ones = torch.ones(len(xy), 1)
        return torch.cat([xy, torch.from_numpy(residual), ones], 1).to(self.device)


def _grid(height: int, width: int) -> Tensor:
    """Network coordinates (height * width, 2) float32 of the pixel centres, row by row."""
    y = (torch.arange(height, dtype=torch.float64) + 0.5) * 2 / height - 1
    x = (torch.arange(width, dtype=torch.float64) + 0.5) * 2 / width - 1
    return torch.stack([x.repeat(height), y.repeat_interleave(width)], 1).float()
