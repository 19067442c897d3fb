"""Frames to networks: background SIRENs, then the residuals of their boxes, fitted in batches."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from common.bitstream import Network, ObjectPatch
from common.bitstream.network_payload import encode_network
from common.inr.compose import owners
from common.inr.decode import compose_packets
from common.inr.groups import NetworkGroup
from common.inr.raster import WorkBudget
from common.inr.siren import Architecture
from fog_node.encoders.encoder_settings import EncoderSettings
from fog_node.encoders.goals import Goal, psnr_db
from fog_node.encoders.ladder import Climb, Deadline, architectures
from fog_node.encoders.size_choice import background_rung, object_rung, rung_for_bytes
from fog_node.workers.encoder_work import Work

__all__ = ["SirenEncoder"]

ROUNDING = 1.1 / 12 / 255**2
"""Squared error that rounding to 8 bits adds, RGB in [0, 1], and a little; the target is judged after it."""
COARSE_SHARE = 0.35
"""Pixels are fitted as means of 2 x 2 where the detail that this leaves out is so little of the target."""
BACKGROUND_BYTES_SHARE = 0.75
"""Under a target size, the background's share of a packet with boxes; objects have what it leaves."""
FIXED_BYTES, IDENTITY_BYTES, BOX_BYTES, PATCH_BYTES = 64, 48, 9, 10
"""Of a packet around its payloads, at most: head, sizes and checksum; identity; a box; a patch."""
MIN_PAYLOAD = 64
"""Fewer bytes hold no network of the ladder."""
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
        target = _allowed(settings.background_psnr)
        climb = Climb(settings.background, settings.w0, self._generator, self.device)
        sizes = architectures(settings.background)
        goals = []
        for item in items:
            rows = self._background_rows(item)
            start = self._warm_start(item, rows)
            budget = self._bytes_left(item)
            if budget is not None and item.regions:
                budget = int(budget * BACKGROUND_BYTES_SHARE)
            if start is not None:
                rung = sizes.index(Architecture(start.width, start.depth))
            elif budget is not None:
                rung = rung_for_bytes(budget, sizes)
            else:
                rung = background_rung(item.image, settings.background_psnr, sizes)
            coarse, unseen = self._coarse_rows(item)
            if unseen > COARSE_SHARE * target:
                goals.append(Goal(rows, target, 0.5, rung, start, max_bytes=budget))
            else:
                goals.append(Goal(rows, target, 0.5, rung, start, coarse, unseen, budget))
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

    def _coarse_rows(self, item: Work) -> tuple[Tensor | None, float]:
        """Samples of the means of 2 x 2 pixels, and the mean squared error that they leave out."""
        height, width = (side // 2 * 2 for side in item.image.shape[:2])
        if not height * width:
            return None, math.inf
        image = torch.from_numpy(np.ascontiguousarray(item.image[:height, :width])).float()
        blocks = image.view(height // 2, 2, width // 2, 2, 3)
        means = blocks.mean((1, 3))
        unseen = float((blocks - means[:, None, :, None]).square().mean()) / 255**2
        # An odd last row or column is left out: the grid of means covers that much less than the frame.
        covered = torch.tensor([width / item.image.shape[1], height / item.image.shape[0]])
        xy = (_grid(height // 2, width // 2) + 1) * covered - 1
        rows = torch.cat([xy, means.reshape(-1, 3) / 127.5 - 1, torch.ones(len(xy), 1)], 1)
        return rows.to(self.device), unseen

    def _bytes_left(self, item: Work) -> int | None:
        """Bytes for payloads under a target size: what labels and identity leave; None without one."""
        limit = self._settings.max_packet_bytes
        if limit is None:
            return None
        names = {box.name for box in item.boxes}
        labels = BOX_BYTES * len(item.boxes) + sum(1 + len(name.encode()) for name in names)
        spent = FIXED_BYTES + len(self._settings.profile) + labels + PATCH_BYTES * len(item.regions)
        spent += IDENTITY_BYTES * (item.frame.identity is not None)
        if isinstance(item.background, Network):
            spent += len(encode_network(item.background))
        return max(MIN_PAYLOAD, limit - spent)

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
        target = _allowed(settings.object_psnr)
        target_db = psnr_db(target)
        sizes = architectures(settings.object)
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
            work = WorkBudget(item.image.shape[1], item.image.shape[0])
            # A decoder would refuse more: the boxes left out show the background.
            needed = [index for index in needed if work.take(item.regions[index])]
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
                budget = self._bytes_left(item)
                if budget is not None:
                    area = sum((x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in (item.regions[i] for i in needed))
                    budget = max(MIN_PAYLOAD, int(budget * (y1 - y0) * (x1 - x0) / area))
                    rung = rung_for_bytes(budget, sizes)
                goals.append(Goal(rows, target, unit, rung, max_bytes=budget))
                keys.append((number, index))
        climb = Climb(settings.object, settings.w0, self._generator, self.device)
        for (number, index), goal, result in zip(keys, goals, climb.run(goals, deadline), strict=True):
            if result.network is not None:
                items[number].objects[index] = ObjectPatch(index, goal.unit, result.network)

    def _object_rows(self, height: int, width: int, mine: np.ndarray, residual: np.ndarray) -> Tensor:
        xy = _grid(height, width)[torch.from_numpy(mine)]
        ones = torch.ones(len(xy), 1)
        return torch.cat([xy, torch.from_numpy(residual), ones], 1).to(self.device)


def _allowed(psnr: float) -> float:
    """Squared error, RGB in [0, 1], with which a picture rounded to 8 bits still has ``psnr`` dB."""
    return max(1e-9, 10 ** (-psnr / 10) - ROUNDING)


def _grid(height: int, width: int) -> Tensor:
    """Network coordinates (height * width, 2) float32 of the pixel centres, row by row."""
    y = (torch.arange(height, dtype=torch.float64) + 0.5) * 2 / height - 1
    x = (torch.arange(width, dtype=torch.float64) + 0.5) * 2 / width - 1
    return torch.stack([x.repeat(height), y.repeat_interleave(width)], 1).float()
