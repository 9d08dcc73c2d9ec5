"""Masks as palette PNGs, as DAVIS and PASCAL VOC keep them: the pixel is the number of its object, the palette only its colour in a viewer."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image


@lru_cache(maxsize=1)
def voc_palette() -> NDArray[np.uint8]:
    """The colours of the numbers 0 to 255, (256, 3): three bits of a number after the other go into red, green and blue, the highest bits of each first."""
    numbers = np.arange(256)
    colours = np.zeros((256, 3), dtype=np.uint8)
    for step in range(8):
        for channel in range(3):
            colours[:, channel] |= (((numbers >> (3 * step + channel)) & 1) << (7 - step)).astype(np.uint8)
    return colours


def write_mask(path: Path, mask: NDArray[np.uint8]) -> None:
    """Write a mask (H, W) as a palette PNG."""
    image = Image.fromarray(mask)
    image.putpalette(voc_palette().tobytes())  # from here on the levels are numbers in a palette
    image.save(path, format="PNG")
