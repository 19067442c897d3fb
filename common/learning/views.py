"""Views: what each image of a training batch shows of which frames, drawn at random but repeatable.

The hyper-parameters mean what they mean in Ultralytics (``Mosaic``, ``RandomPerspective``, ``RandomHSV`` and
``RandomFlip`` of ``ultralytics.data.augment``); where those warp pixels, a view is only a matrix.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from common.learning.augmentation_settings import AugmentationSettings

__all__ = ["NO_AUGMENTATION", "Matrix", "View", "draw_view", "draw_views", "plain_view"]

Matrix = npt.NDArray[np.float64]

NO_AUGMENTATION = AugmentationSettings.model_validate(dict.fromkeys(AugmentationSettings.model_fields, 0))
"""Every frame as it is, in its letterbox."""

_DRAWS = 19
"""Random numbers of a view: always as many, so that one setting does not change what another one does."""


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """What one training image shows.

    Attributes:
        frames: Number of the frame; of four for a mosaic: top left, top right, bottom left, bottom right.
        matrix: (3, 3) float64, takes the coordinates of the canvas to those of the image. The canvas is the
            letterbox, or for a mosaic a square of twice its side.
        scale: By how much ``matrix`` scales.
        centre: Of a mosaic, where its frames meet (x, y), canvas pixels; None for one frame.
        mirror: Whether the image is then mirrored left to right, top to bottom.
        gains: Shift of hue as a share of the circle, relative change of saturation and of brightness.
    """

    frames: tuple[int, ...]
    matrix: Matrix
    scale: float = 1.0
    centre: tuple[int, int] | None = None
    mirror: tuple[bool, bool] = (False, False)
    gains: tuple[float, float, float] = (0.0, 0.0, 0.0)

    @property
    def moved(self) -> bool:
        """Whether the frames lie elsewhere than in their letterbox; mirroring does not count."""
        return self.centre is not None or not np.array_equal(self.matrix, np.eye(3))


def plain_view(frame: int) -> View:
    """Frame number ``frame`` in its letterbox."""
    return View((frame,), np.eye(3))


def draw_views(
    settings: AugmentationSettings,
    imgsz: int,
    seed: Sequence[int],
    frames: Sequence[int],
    pool: npt.NDArray[np.int64],
) -> list[View]:
    """A view of each frame of a batch; see :func:`draw_view`, which is given ``[*seed, frame]``."""
    return [draw_view(settings, imgsz, [*seed, frame], frame, pool) for frame in frames]


def draw_view(
    settings: AugmentationSettings,
    imgsz: int,
    seed: Sequence[int],
    frame: int,
    pool: npt.NDArray[np.int64],
) -> View:
    """A random view of a frame; the same for the same arguments.

    Args:
        settings: How much is varied.
        imgsz: Side of the training image, pixels.
        seed: Non-negative integers.
        frame: Its number.
        pool: (F,) int64 frames that a mosaic may take beside it, at least one.
    """
    draw = np.random.default_rng(list(seed)).random(_DRAWS)
    both = 2 * draw - 1  # uniform in [-1, 1)
    mosaic = bool(draw[0] < settings.mosaic)
    frames: tuple[int, ...] = (frame,)
    centre = None
    if mosaic:
        frames = (frame, *(int(pool[int(x * len(pool))]) for x in draw[1:4]))
        centre = int(imgsz / 2 + draw[4] * imgsz), int(imgsz / 2 + draw[5] * imgsz)
    scale = 1 + both[6] * settings.scale
    matrix = _matrix(
        side=imgsz * 2 if mosaic else imgsz,
        imgsz=imgsz,
        scale=scale,
        degrees=both[7] * settings.degrees,
        shear=(both[8] * settings.shear, both[9] * settings.shear),
        perspective=(both[10] * settings.perspective, both[11] * settings.perspective),
        shift=(both[12] * settings.translate, both[13] * settings.translate),
    )
    gains = (
        float(both[14] * settings.hsv_h),
        float(both[15] * settings.hsv_s),
        float(both[16] * settings.hsv_v),
    )
    mirror = bool(draw[17] < settings.fliplr), bool(draw[18] < settings.flipud)
    return View(frames, matrix, float(scale), centre, mirror, gains)


def _matrix(
    *,
    side: int,
    imgsz: int,
    scale: float,
    degrees: float,
    shear: tuple[float, float],
    perspective: tuple[float, float],
    shift: tuple[float, float],
) -> Matrix:
    """Canvas of ``side`` pixels to image of ``imgsz``, about their centres, as Ultralytics multiplies it."""
    centre, tilt, turn, slant, place = (np.eye(3) for _ in range(5))
    centre[:2, 2] = -side / 2
    tilt[2, :2] = perspective
    a = math.radians(degrees)
    turn[:2, :2] = [[scale * math.cos(a), scale * math.sin(a)], [-scale * math.sin(a), scale * math.cos(a)]]
    slant[[0, 1], [1, 0]] = [math.tan(math.radians(x)) for x in shear]
    place[:2, 2] = [(0.5 + x) * imgsz for x in shift]
    matrix: Matrix = place @ slant @ turn @ tilt @ centre
    return matrix
