"""How well keypoints of a person are followed: PCK, the share of them found near enough, measured in sizes of that person.

Yang and Ramanan, TPAMI 2013 (PCK), as the evaluations of label propagation on JHMDB compute it since Wang, Jabri and Efros, CVPR 2019 (arXiv:1903.07593), and
Li et al., NeurIPS 2019 (arXiv:1909.11895). Written from what their published code does:

- The size of a person in a frame is 0.6 times the diagonal of the box around his true joints in that frame.
- A joint is right at threshold t where it lies at most t times that size from the truth. The first frame, which was given, does not count.
- The figure is the mean over joints of the share that is right over all frames of all videos: a joint that is rarely in view weighs as much as another.
- Joints that lie outside of the picture in the first frame cannot be given. They count nowhere, not for the box either.

One choice is stricter here: a joint that the tracker loses is wrong. The published code leaves it out, in each frame and of the box.

T frames, K joints; points are (x, y) in pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5)
SIZE = 0.6  # of the diagonal


def person_size(true: NDArray[np.float64], given: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Size of the person in each frame, pixels (T,), by the joints (T, K, 2) that are `given` (K,)."""
    joints = true[:, given]
    return SIZE * np.hypot(*(joints.max(axis=1) - joints.min(axis=1)).T)


def joint_distances(found: NDArray[np.float64], true: NDArray[np.float64], given: NDArray[np.bool_]) -> NDArray[np.float64]:
    """How far each joint lies from the truth in sizes of the person, (T - 1, K), the first frame left out.

    Args:
        found: (T, K, 2), NaN where a joint is lost.
        true: (T, K, 2).
        given: (K,), the joints that were given in the first frame.

    Returns:
        NaN for joints that were not given, infinity for those that were lost.

    Raises:
        ValueError: shapes differ, or no joint was given.
    """
    if found.shape != true.shape or true.ndim != 3 or given.shape != true.shape[1:2]:
        raise ValueError(f"found {found.shape}, true {true.shape} and given {given.shape} must be (T, K, 2) twice and (K,)")
    if not given.any():
        raise ValueError("no joint was given: there is nothing to measure")
    with np.errstate(divide="ignore", invalid="ignore"):  # joints that all lie in one point: only what hits them is right
        far = np.hypot(*np.moveaxis(found - true, 2, 0))
        relative = np.where(far == 0, 0.0, far / person_size(true, given)[:, None])
    relative[np.isnan(far)] = np.inf
    relative[:, ~given] = np.nan
    return relative[1:]


def pck(distances: Sequence[NDArray[np.float64]], threshold: float) -> tuple[float, NDArray[np.float64]]:
    """PCK over videos, each (T - 1, K) of `joint_distances`: the mean over joints, and each joint's own share (K,), NaN where it was never given.

    Raises:
        ValueError: there is nothing to measure.
    """
    if not distances:
        raise ValueError("no videos to measure")
    rows = np.concatenate(distances)
    counts = (~np.isnan(rows)).sum(axis=0)
    if not counts.any():
        raise ValueError("no joint was given in any video")
    right = (rows <= threshold).sum(axis=0)  # NaN is not
    shares = np.where(counts > 0, right / np.maximum(counts, 1), np.nan)
    return float(np.nanmean(shares)), shares
