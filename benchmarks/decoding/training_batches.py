"""Training batches: from resident packets, and from whole-frame files read by Pillow."""

from __future__ import annotations

import io
import statistics
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from common.bitstream import Packet
from common.bitstream.keyframe_files import KeyframeFiles
from common.inr.compose import to_bytes
from common.inr.decode import compose_packets, resize
from common.learning.batches import decode_batch
from common.learning.letterbox import FILL, letterbox_content
from common.learning.resident import ResidentStore
from common.learning.settings import TrainingSettings
from decoding.waits import wait

__all__ = ["PEERS", "profile_speeds"]

PEERS = {"JPEG": 30, "AVIF": 35}
"""Pillow's formats and a quality at which a frame has some 30 dB."""
BATCH = 8


class Resident:
    """Packets in a resident store: how long they took to get there, and training batches of them."""

    def __init__(self, packets: list[Packet], keyframes: KeyframeFiles | None, device: torch.device) -> None:
        self.store = ResidentStore(device, 1 << 34, TrainingSettings(classes=_classes(packets)))
        begin = time.perf_counter()
        added = self.store.add([replace(p, labelled=True, validation=False) for p in packets], keyframes)
        wait(device)
        self.arrival_seconds = (time.perf_counter() - begin) / len(packets)
        if added.trainable < len(packets):
            raise SystemExit(f"only {added.trainable} of {len(packets)} packets can be decoded")

    def batches(self, imgsz: int) -> None:
        """Every frame once."""
        numbers = torch.arange(len(self.store))
        for at in range(0, len(numbers), BATCH):
            decode_batch(self.store, numbers[at : at + BATCH], imgsz)


class Files:
    """Pictures as whole-frame files in host memory, read by Pillow into training batches."""

    def __init__(self, pictures: list[npt.NDArray[np.uint8]], codec: str, device: torch.device) -> None:
        self.device = device
        self.files = []
        for picture in pictures:
            target = io.BytesIO()
            Image.fromarray(picture).save(target, codec, quality=PEERS[codec])
            self.files.append(target.getvalue())

    def batches(self, imgsz: int) -> None:
        """Every frame once."""
        for at in range(0, len(self.files), BATCH):
            images = []
            for file in self.files[at : at + BATCH]:
                pixels = np.array(Image.open(io.BytesIO(file)).convert("RGB"))
                image = torch.from_numpy(pixels).to(self.device).permute(2, 0, 1).float() / 255
                top, left, height, width = letterbox_content(torch.tensor([image.shape[1:]]), imgsz)[
                    0
                ].tolist()
                square = torch.full((3, imgsz, imgsz), FILL, dtype=torch.uint8, device=self.device)
                shown = to_bytes(resize(image, (height, width)))
                square[:, top : top + height, left : left + width] = shown
                images.append(square)
            torch.stack(images)


def profile_speeds(
    groups: dict[str, tuple[list[Packet], KeyframeFiles | None]],
    device: torch.device,
    imgsz: int,
    rounds: int,
) -> dict[str, dict[str, float]]:
    """Figures by profile, and by Pillow's format on the pictures of the first profile."""
    residents = {name: Resident(packets, keyframes, device) for name, (packets, keyframes) in groups.items()}
    packets, keyframes = next(iter(groups.values()))
    pictures = [
        to_bytes(compose_packets([p], keyframes=keyframes))[0].permute(1, 2, 0).contiguous().numpy()
        for p in packets
    ]
    files = {codec: Files(pictures, codec, device) for codec in PEERS}
    ways: dict[str, tuple[Callable[[int], None], int]] = {
        **{name: (resident.batches, len(resident.store)) for name, resident in residents.items()},
        **{f"Pillow {codec}": (peer.batches, len(peer.files)) for codec, peer in files.items()},
    }
    for way, _ in ways.values():
        way(imgsz)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, (way, _) in ways.items():
            begin = time.perf_counter()
            way(imgsz)
            wait(device)
            seconds[name].append(time.perf_counter() - begin)
    report = {
        name: {"frames_per_second": count / statistics.median(seconds[name])}
        for name, (_, count) in ways.items()
    }
    for name, resident in residents.items():
        count = len(resident.store)
        report[name]["arrival_ms"] = 1000 * resident.arrival_seconds
        report[name]["resident_bytes"] = resident.store.nbytes / count
    for codec, peer in files.items():
        report[f"Pillow {codec}"]["resident_bytes"] = sum(map(len, peer.files)) / len(peer.files)
    return report


def _classes(packets: list[Packet]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(box.name for packet in packets for box in packet.boxes)) or ("object",)
