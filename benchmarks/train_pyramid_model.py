"""Train the shared model of profile ``pyramid``, leaving out sources by name, and write it as one file.

Two turns: integers rounded with a plain dead zone teach a first entropy model; with it the encoder chooses
integers by rate and distortion, and these teach the final one and the filter. Writes beside the model what it
was trained on, and what never.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from safetensors.numpy import save

from common.cli import make_folder, print_json, run_command
from common.errors import UsageError
from common.images import Rgb, decode_image, scale_to_width
from common.pyramid.grids import Grids
from common.pyramid.model import MAX_MODEL_BYTES, Floats, PyramidModel, load_model
from fog_node.encoders.pyramid_fit import dead_zone_grids, quantize_grids
from pyramid_training.entropy_fit import ContextNetworks, entropy_tensors, fit_networks
from pyramid_training.filter_fit import filter_tensors, fit_filter
from pyramid_training.samples import Quantizer, Samples, collect

WIDTH = 640


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="train_pyramid_model.py", description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder that holds a folder of frames a source")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--exclude", nargs="*", default=[], help="sources (first folder below data) left out")
    parser.add_argument("--held-out", type=Path, help="CSV whose frames are never trained on")
    parser.add_argument("--frames", type=int, default=8, help="frames of each folder")
    parser.add_argument("--steps", type=int, default=1200, help="of the final entropy model")
    parser.add_argument("--filter-steps", type=int, default=4000)
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.set_defaults(command=_train)
    return run_command(parser, argv)


def _train(arguments: argparse.Namespace) -> int:
    """Train and write."""
    begin = time.monotonic()
    for name in ("frames", "steps", "filter_steps"):
        if getattr(arguments, name) < 2:
            raise UsageError(f"--{name.replace('_', '-')} is {getattr(arguments, name)}; give 2 or more")
    never = held_out_frames(arguments.held_out)
    paths = training_frames(arguments.data, arguments.frames, arguments.exclude, never)
    make_folder(arguments.out.parent)
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
    _write(arguments.out, data)
    report = {
        "model": done.id.hex(),
        "sha256": hashlib.sha256(data).hexdigest(),
        "bytes": len(data),
        "limit": MAX_MODEL_BYTES,
        "excluded": sorted(arguments.exclude),
        "held_out": [_shown(path, arguments.data) for path in never],
        "steps": arguments.steps,
        "filter_steps": arguments.filter_steps,
        "frames": {name: counts[name] for name in sorted(counts)},
        "training_list": [str(path.relative_to(arguments.data)) for path in paths],
        "seconds": round(time.monotonic() - begin, 1),
    }
    _write(arguments.out.with_suffix(".json"), (json.dumps(report, indent=1) + "\n").encode())
    print_json({k: v for k, v in report.items() if k not in ("training_list", "held_out")})
    return 0


def held_out_frames(held_out: Path | None) -> list[Path]:
    """The frames of a CSV whose first column, below one line of names, has paths from its folder on.

    Raises:
        UsageError: The file cannot be read, or names a frame that is not there.
    """
    if held_out is None:
        return []
    try:
        lines = held_out.read_text("utf-8").splitlines()[1:]
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read --held-out {held_out}: {error}") from error
    paths = sorted({(held_out.parent / line.split(",")[0]).resolve() for line in lines if line})
    for path in paths:
        if not path.is_file():
            raise UsageError(f"--held-out {held_out} names {path}, which is no file; mend the list")
    return paths


def training_frames(data: Path, count: int, exclude: Sequence[str], never: Sequence[Path]) -> list[Path]:
    """``count`` frames of each folder of pictures below ``data``, evenly spread, in order.

    Args:
        data: Holds a folder a source.
        count: Frames a folder; three times as many where a source is one folder.
        exclude: Sources left out.
        never: Frames left out, resolved.

    Raises:
        UsageError: ``data`` is no folder or has no frame to train on, or an excluded source is not there.
    """
    if not data.is_dir():
        raise UsageError(f"{data} is no folder; give one that holds a folder of .jpg frames a source")
    for name in exclude:
        if not (data / name).is_dir():
            raise UsageError(f"--exclude {name} is no folder of {data}; give the name of a source")
    held_out, paths = set(never), []
    for folder in sorted({path.parent for path in data.rglob("*.jpg")}):
        if folder == data or folder.relative_to(data).parts[0] in exclude:
            continue
        found = [path for path in sorted(folder.glob("*.jpg")) if path.resolve() not in held_out]
        # Isolated pictures differ more than neighbours of a sequence do.
        wanted = count * 3 if len(folder.relative_to(data).parts) == 2 else count
        picks = np.linspace(0, len(found) - 1, min(wanted, len(found))).round().astype(int)
        paths += [found[i] for i in picks]
    if not paths:
        raise UsageError(f"{data} has no folder with a .jpg frame to train on; check it and what is left out")
    return paths


def _shown(path: Path, data: Path) -> str:
    """A frame as the report names it: from the data's folder on where it lies there."""
    root = data.resolve()
    return str(path.relative_to(root)) if path.is_relative_to(root) else path.name


def _write(path: Path, data: bytes) -> None:
    try:
        path.write_bytes(data)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}") from error


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
    sys.exit(main())
