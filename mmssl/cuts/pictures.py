"""Boxes and times of pictures, and the checks of what views ask for: what all ways to cut share."""

from __future__ import annotations

import numpy as np

from mmssl.types import Box, InputError, InputSpec, Source

WHOLE = (0.0, 0.0, 1.0, 1.0)


def draw_box(
    source: Source,
    scale: tuple[float, float],
    rng: np.random.Generator,
    *,
    region: tuple[float, float, float, float] = WHOLE,
) -> Box | None:
    """Draw a box that is square in pixels, its side `scale` (low, high) times the region's shorter side, anywhere in the region.

    None where the index does not know the size of the picture: then the largest centred square is taken.
    """
    share, across, down = float(rng.uniform(*scale)), float(rng.random()), float(rng.random())
    return _square(source, region, share, across, down)


def region_box(source: Source, region: tuple[float, float, float, float]) -> Box | None:
    """The region's largest centred square; None for the whole picture, whose largest centred square is taken anyway."""
    return None if region == WHOLE else _square(source, region, 1.0, 0.5, 0.5)


def region_problem(source: Source, region: tuple[float, float, float, float]) -> str | None:
    """Why this region of a source's picture cannot be cut; None where it can."""
    known = region == WHOLE or (source.width > 0 and source.height > 0)
    return None if known else "size unknown, so views.region cannot be cut"


def _square(source: Source, region: tuple[float, float, float, float], share: float, across: float, down: float) -> Box | None:
    if source.width <= 0 or source.height <= 0:
        return None
    left, top, wide, tall = region
    side = share * min(wide * source.width, tall * source.height)
    width, height = min(wide, side / source.width), min(tall, side / source.height)
    return Box(left + across * (wide - width), top + down * (tall - height), width, height)


def spread_times(start: float, seconds: float, count: int, rng: np.random.Generator) -> tuple[float, ...]:
    """One moment in each of `count` equal parts of a window, uniform within its part."""
    return tuple(float(t) for t in start + (np.arange(count) + rng.random(count)) * (seconds / count))


def even_times(start: float, seconds: float, count: int, fps: float) -> tuple[float, ...]:
    """`count` moments 1 / `fps` apart, centred in a window."""
    return tuple(start + seconds / 2 + (k - (count - 1) / 2) / fps for k in range(count))


def fill_size(asked: int | None, picture: InputSpec) -> int:
    """The side in pixels that views ask for, else that the encoder names. Raises `InputError` where neither says."""
    size = asked or picture.size
    if not size:
        raise InputError("the video encoder takes any picture size, so views.size must say which, for example 128")
    return size


def check(fine: bool, text: str) -> None:
    """Raise `InputError(text)` unless `fine`."""
    if not fine:
        raise InputError(text)


def check_crop(crop: tuple[float, float]) -> None:
    """Raise `InputError` unless `crop` is a rising pair of shares above 0."""
    check(0.0 < crop[0] <= crop[1] <= 1.0, f"views.crop is {crop}; give (low, high) with 0 < low <= high <= 1")


def check_region(region: tuple[float, float, float, float]) -> None:
    """Raise `InputError` unless `region` lies in the picture."""
    left, top, width, height = region
    inside = 0.0 <= left < 1.0 and 0.0 <= top < 1.0 and 0.0 < width <= 1.0 - left + 1e-9 and 0.0 < height <= 1.0 - top + 1e-9
    check(inside, f"views.region is {region}; give (left, top, width, height) as shares of the picture, all of it inside")
