"""Averages over time: of scores and of maps, over a window centred on each moment. Off unless asked for.

It steadies claims and it blurs places: what moves is smeared over its path (docs/results/localize.md has the figures).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mmssl.downstream.mapfile import MapFile

EDGE = 1e-6  # seconds: moments exactly half a window away count, whatever their rounding


def neighbours(times: ArrayLike, seconds: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First and last (not included) of the moments at most `seconds` / 2 away from each, (K,) and (K,)."""
    moments = np.asarray(times, dtype=np.float64)
    first = np.searchsorted(moments, moments - seconds / 2 - EDGE)
    last = np.searchsorted(moments, moments + seconds / 2 + EDGE)
    return first, last


def smooth_values(times: ArrayLike, values: ArrayLike, seconds: float) -> NDArray[np.float64]:
    """Values (K, ...) averaged over the window around each; as they are where `seconds` is 0."""
    plain: NDArray[np.float64] = np.asarray(values, dtype=np.float64)
    if seconds <= 0:
        return plain
    first, last = neighbours(times, seconds)
    sums = np.concatenate([np.zeros_like(plain[:1]), np.cumsum(plain, axis=0)])
    count: NDArray[Any] = (last - first).reshape(-1, *(1,) * (plain.ndim - 1))
    return (sums[last] - sums[first]) / count


def smooth_maps(maps: MapFile, times: ArrayLike, seconds: float, into: MapFile) -> MapFile:
    """Each map averaged with those around it, into another file (opened for writing)."""
    for first, last in zip(*neighbours(times, seconds), strict=True):
        into.append(maps.rows(int(first), int(last)).astype(np.float32).mean(axis=0, keepdims=True))
    return into
