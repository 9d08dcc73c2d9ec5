"""Maps that hear nothing: what every localization figure must be read against.

The centre (objects are filmed in the middle), the object prior (a picture encoder's activation marks objects, heard or not:
Mo and Morgado, "Localizing visual sounds the easy way", ECCV 2022, section 3.3), and motion energy (what moves often sounds).
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray


def centre_map(height: int, width: int) -> NDArray[np.float32]:
    """(height, width): 1 in the middle, falling off as a Gaussian of a quarter of each side."""
    y = (np.arange(height, dtype=np.float32) - (height - 1) / 2) / (height / 4)
    x = (np.arange(width, dtype=np.float32) - (width - 1) / 2) / (width / 4)
    return np.exp(-(y[:, None] ** 2 + x[None, :] ** 2) / 2)


def object_prior_map(grid: NDArray[Any]) -> NDArray[np.float32]:
    """Mean absolute activation over the channels of a picture encoder's grid: (..., h, w, D) -> (..., h, w)."""
    return np.abs(np.asarray(grid, dtype=np.float32)).mean(axis=-1)


def motion_map(before: NDArray[np.uint8], after: NDArray[np.uint8], *, blur: float = 3.0) -> NDArray[np.float32]:
    """Motion energy between two pictures (H, W, 3) -> (H, W): absolute difference over the colours, smoothed.

    Args:
        before: the earlier picture.
        after: the later picture.
        blur: standard deviation in pixels; without it the maximum is a single noisy pixel.
    """
    change = np.abs(after.astype(np.float32) - before.astype(np.float32)).mean(axis=-1)
    return cv2.GaussianBlur(change, (0, 0), blur) if blur > 0 else change
