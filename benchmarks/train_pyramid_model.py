"""Train the shared model of profile ``pyramid``, leaving out sources by name, and write it as one file.

Two turns: integers rounded with a plain dead zone teach a first entropy model; with it the encoder chooses
integers by rate and distortion, and these teach the final one and the filter. Prints what it was trained on.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from safetensors.numpy import save

from common.images import Rgb, decode_image, scale_to_width
from common.pyramid.grids import Grids
from common.pyramid.model import MAX_MODEL_BYTES, Floats, PyramidModel, load_model
from fog_node.pyramid_fit import dead_zone_grids, quantize_grids
from pyramid_training.entropy_fit import ContextNetworks, entropy_tensors, fit_networks
from pyramid_training.filter_fit import filter_tensors, fit_filter
from pyramid_training.samples import Quantizer, Samples, collect

WIDTH = 640


def main() -> None:
    """Train and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder that holds a folder of frames a source")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--exclude", nargs="*", default=[], help="sources (first folder below data) left out")
    parser.add_argument("--held-out", type=Path, help="CSV whose frames are never trained on")
    parser.add_argument("--frames", type=int, default=8, help="frames of each folder")
    parser.add_argument("--steps", type=int, default=1200, help="of the final entropy model")
    parser.add_argument("--filter-steps", type=int, default=4000)
    arguments = parser.parse_args()
    begin = time.monotonic()
    paths = training_frames(arguments.data, arguments.frames, arguments.exclude, arguments.held_out)
    images = [_load(path) for path in paths]
    counts = Counter(path.relative_to(arguments.data).parts[0] for path in paths)
    say = partial(print, file=sys.stderr, flush=True)
    say(f"{len(paths)} frames: " + ", ".join(f"{name} {count}" for name, count in sorted(counts.items())))
    torch.manual_seed(0)
    networks = ContextNetworks()
    first = _collected(images, lambda low, details, step, _: dead_zone_grids(low, details, step), None, say)
    fit_networks(networks, first, arguments.steps // 2, _teller("first entropy model, bits an integer", say))
    model = load_model(save(entropy_tensors(networks, first)))

    def chosen(low: Floats, details: list[tuple[Floats, ...]], step: float, residual: bool) -> Grids:
        return quantize_grids(low, details, model, step, residual)

    second = _collected(images, chosen, model, say)
    fit_networks(networks, second, arguments.steps, _teller("entropy model, bits an integer", say))
    tensors = entropy_tensors(networks, second)
    fitted = fit_filter(second.decoded, arguments.filter_steps, _teller("filter, gain in dB", say))
    tensors.update(filter_tensors(fitted))
    data = save(tensors)
    done = load_model(data)
    arguments.out.write_bytes(data)
    report = {
        "model": done.id.hex(),
        "sha256": hashlib.sha256(data).hexdigest(),
        "bytes": len(data),
        "limit": MAX_MODEL_BYTES,
        "excluded": sorted(arguments.exclude),
        "frames": {name: counts[name] for name in sorted(counts)},
        "training_list": [str(path.relative_to(arguments.data)) for path in paths],
        "seconds": round(time.monotonic() - begin, 1),
    }
    arguments.out.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps({k: v for k, v in report.items() if k != "training_list"}))


def training_frames(data: Path, count: int, exclude: list[str], held_out: Path | None) -> list[Path]:
    """``count`` frames of each folder of pictures below ``data``, evenly spread, in order."""
    never: set[Path] = set()
    if held_out is not None:
        lines = held_out.read_text().splitlines()[1:]
        never = {(held_out.parent / line.split(",")[0]).resolve() for line in lines if line}
    paths = []
    for folder in sorted({path.parent for path in data.rglob("*.jpg")}):
        if folder == data or folder.relative_to(data).parts[0] in exclude:
            continue
        found = [path for path in sorted(folder.glob("*.jpg")) if path.resolve() not in never]
        # Isolated pictures differ more than neighbours of a sequence do.
        wanted = count * 3 if len(folder.relative_to(data).parts) == 2 else count
        picks = np.linspace(0, len(found) - 1, min(wanted, len(found))).round().astype(int)
        paths += [found[i] for i in picks]
    return paths


def _load(path: Path) -> Rgb:
    return scale_to_width(decode_image(path.read_bytes()), WIDTH)[0]


def _collected(
    images: list[Rgb], quantize: Quantizer, model: PyramidModel | None, say: Callable[[str], None]
) -> Samples:
    samples = Samples()
    for number, grown in enumerate(collect(images, quantize, model), 1):
        samples = grown
        if number % 20 == 0 or number == len(images):
            say(f"samples of {number} of {len(images)} frames")
    return samples


def _teller(what: str, say: Callable[[str], None], every: int = 200) -> Callable[[int, float], None]:
    values: list[float] = []

    def tell(step: int, value: float) -> None:
        values.append(value)
        if step % every == 0:
            say(f"step {step}: {what} {np.mean(values[-every:]):.4f}")

    return tell


if __name__ == "__main__":
    cv2.setNumThreads(1)
    main()
