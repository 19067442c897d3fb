"""What every test stands on: an offline environment, real frames when given, and small made photographs."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from pathlib import Path

import numpy as np
import pytest

from common.cli import yield_while_waiting
from common.images import Rgb

yield_while_waiting()

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell's background job ignores Ctrl-C, and so would every process that a test starts and interrupts.
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Read when ultralytics and matplotlib are first imported, so they must be set before any test module is.
_SETTINGS_DIR = tempfile.mkdtemp(prefix="residual-inr-tests-")
os.environ.update(
    {
        "YOLO_OFFLINE": "1",
        "YOLO_AUTOINSTALL": "0",
        "ULTRALYTICS_SAFE_LOAD": "1",
        "YOLO_CONFIG_DIR": _SETTINGS_DIR,
        "MPLCONFIGDIR": _SETTINGS_DIR,
        "MPLBACKEND": "Agg",
    }
)


def pytest_unconfigure() -> None:
    shutil.rmtree(_SETTINGS_DIR, ignore_errors=True)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real sequences, from $RESIDUAL_INR_DATA."""
    value = os.environ.get("RESIDUAL_INR_DATA")
    if not value:
        pytest.skip("RESIDUAL_INR_DATA is not set: it names the folder of real sequences")
    path = Path(value)
    if not path.is_dir():
        pytest.skip(f"RESIDUAL_INR_DATA names {value}, which is no folder")
    return path


def make_photo(width: int, height: int, seed: int = 0) -> Rgb:
    """A natural-like picture, (height, width, 3) uint8: 1/f noise in each channel with some sharp edges."""
    rng = np.random.default_rng(seed)
    fy = np.fft.fftfreq(height)[:, None]
    fx = np.fft.rfftfreq(width)[None, :]
    falloff = 1 / np.maximum(np.hypot(fx, fy), 1 / max(width, height)) ** 1.3
    grey = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((height, width))) * falloff, s=(height, width))
    channels = []
    for _ in range(3):
        own = np.fft.irfft2(np.fft.rfft2(rng.standard_normal((height, width))) * falloff, s=(height, width))
        mixed = grey / grey.std() + 0.4 * own / own.std()
        channels.append(128 + 40 * mixed)
    rgb = np.stack(channels, axis=-1)
    x0, y0 = width // 5, height // 4
    rgb[y0 : y0 + height // 3, x0 : x0 + width // 4] += (60, -40, 20)
    return rgb.clip(0, 255).round().astype(np.uint8)


@pytest.fixture(scope="session")
def photo() -> Rgb:
    """A small natural-like RGB picture, (72, 96, 3) uint8, the same in every run."""
    rgb = make_photo(96, 72)
    rgb.flags.writeable = False
    return rgb
