"""Sound-source localization: the published protocols, each with what it says and where it is from.

Maps are (N, h, w), higher: more likely the source. Truths are (N, H, W) in [0, 1]: the share of annotators (or the mask) that calls
a pixel sounding; an all-zero truth is a *silent negative*, a clip whose sound has no source in view. Map i is judged by truth i,
whatever the batch (a peer's evaluator judges the whole batch by its first truth).

Senocak et al., "Learning to localize sound source in visual scenes", CVPR 2018 (cIoU, AUC; Flickr-SoundNet). Chen et al., "Localizing
visual sounds the hard way", CVPR 2021 (VGG-SS; the median threshold is in its released evaluation). Mo and Morgado, "A closer look at
weakly-supervised audio-visual source localization", NeurIPS 2022 (SLAVC: silent negatives). Zhang et al., "Top-down neural
attention by excitation backprop", ECCV 2016 (pointing game).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

SIDE = 224  # pixels, the published size at which maps are judged
SUCCESS = 0.5  # consensus IoU from which a clip counts as localized
AUC_THRESHOLDS = np.linspace(0.0, 1.0, 21)

Maps = NDArray[Any]
Bools = NDArray[np.bool_]


class SilentNegatives(NamedTuple):
    """Detection with silent negatives: average precision and the best F1 over all confidence thresholds."""

    average_precision: float
    max_f1: float
    threshold: float  # confidence at which F1 is best


def normalize_map(values: Maps) -> NDArray[np.float32]:
    """One map, min-max normalised to [0, 1]; a map of constant value, which points nowhere, becomes all zeros."""
    plain: NDArray[np.float32] = np.asarray(values, dtype=np.float32)
    low, high = plain.min(), plain.max()
    return np.zeros_like(plain) if high <= low else ((plain - low) / (high - low)).astype(np.float32)


def median_regions(maps: Maps, *, side: int = SIDE) -> Bools:
    """The region that each map claims by the published protocol: its upper half of pixels, (N, side, side).

    Bilinear to `side`, min-max, then strictly above the map's own (upper) median. A constant map claims nothing.
    """
    regions = np.zeros((len(maps), side, side), dtype=bool)
    for region, values in zip(regions, maps, strict=True):
        grown = normalize_map(cv2.resize(np.asarray(values, dtype=np.float32), (side, side), interpolation=cv2.INTER_LINEAR))
        region[:] = grown > np.partition(grown, side * side // 2, axis=None)[side * side // 2]
    return regions


def consensus_iou(regions: Bools, truths: Maps) -> NDArray[np.float64]:
    """Consensus IoU of each region with its own truth -> (N,); 0.0 where neither claims a pixel.

    sum(truth inside the region) / (sum(truth) + pixels of the region where truth is 0): agreement is weighted by how many
    annotators agree, an error costs a full pixel.

    Raises:
        ValueError: shapes differ, or a truth lies outside [0, 1].
    """
    truths = np.asarray(truths, dtype=np.float64)
    if regions.shape != truths.shape:
        raise ValueError(f"regions {regions.shape} and truths {truths.shape} must have one shape (N, H, W)")
    if truths.size and (truths.min() < 0 or truths.max() > 1):
        raise ValueError(f"truths must lie in [0, 1], got {truths.min()} to {truths.max()}")
    inside = (regions * truths).sum(axis=(1, 2))
    whole = truths.sum(axis=(1, 2)) + (regions & (truths == 0)).sum(axis=(1, 2))
    return np.divide(inside, whole, out=np.zeros(len(truths)), where=whole > 0)


def ciou(values: ArrayLike, *, threshold: float = SUCCESS) -> float:
    """The published "cIoU": the share of clips whose consensus IoU reaches `threshold` (0.5).

    Raises:
        ValueError: no values.
    """
    return float((_some(values) >= threshold).mean())


def auc(values: ArrayLike) -> float:
    """Area under (share of clips with consensus IoU >= t) over the 21 thresholds t = 0, 0.05 .. 1, trapezoidal.

    Raises:
        ValueError: no values.
    """
    # A hair of tolerance: 0.05 * 3 is above 0.15 in floating point, and an IoU of exactly 3 / 20 must count.
    shares = (_some(values)[None, :] >= AUC_THRESHOLDS[:, None] - 1e-9).mean(axis=1)
    return float(((shares[1:] + shares[:-1]) / 2 * np.diff(AUC_THRESHOLDS)).sum())


def region_ious(maps: Maps, truths: Maps, threshold: float) -> NDArray[np.float64]:
    """IoU of (min-max map >= `threshold`) with (truth > 0), one value for each clip -> (N,), NaN where the truth is empty.

    A constant map claims nothing and scores 0.

    Raises:
        ValueError: shapes differ.
    """
    masks = np.asarray(truths) > 0
    if np.shape(maps) != masks.shape:
        raise ValueError(f"maps {np.shape(maps)} and truths {masks.shape} must have one shape; resize the maps first")
    found = np.full(len(masks), np.nan)
    for i, (values, mask) in enumerate(zip(maps, masks, strict=True)):
        if mask.any():
            normal = normalize_map(values)
            claimed = (normal >= threshold) & (normal > 0)
            found[i] = (claimed & mask).sum() / (claimed | mask).sum()
    return found


def iou_at(maps: Maps, truths: Maps, thresholds: ArrayLike = (0.3, 0.5, 0.7)) -> dict[float, float]:
    """Mean of `region_ious` at fixed thresholds, over the clips with a source; no threshold is fitted to the test set.

    Raises:
        ValueError: shapes differ, or every truth is empty.
    """
    if not np.any(truths):
        raise ValueError(f"all {len(np.asarray(truths))} truths are empty; IoU needs clips with a source in view")
    asked = np.atleast_1d(np.asarray(thresholds, dtype=np.float64))
    return {float(t): float(np.nanmean(region_ious(maps, truths, float(t)))) for t in asked}


def pointing_hits(maps: Maps, truths: Maps, *, tolerance: float = 0.0) -> NDArray[np.float64]:
    """Pointing game: does the map's maximum fall on the source? One value for each clip -> (N,), NaN where the truth is empty.

    Where several pixels share the maximum, the share of them that hits: a constant map scores the source's share of the
    picture, which is chance, and not whatever lies at the top left.

    Args:
        maps: (N, H, W) at the truths' size.
        truths: (N, H, W), sounding where > 0.
        tolerance: pixels by which the maximum may miss (Zhang et al. allow 15 at 224 or more).

    Raises:
        ValueError: shapes differ.
    """
    maps, masks = np.asarray(maps), np.asarray(truths) > 0
    if maps.shape != masks.shape:
        raise ValueError(f"maps {maps.shape} and truths {masks.shape} must have one shape; resize the maps first")
    scored = np.full(len(maps), np.nan)
    for i, (values, mask) in enumerate(zip(maps, masks, strict=True)):
        if not mask.any():
            continue
        if tolerance > 0:
            away = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
            mask = away <= tolerance
        scored[i] = mask[values == values.max()].mean()
    return scored


def silent_negatives(
    ious: ArrayLike, confidences: ArrayLike, has_source: ArrayLike, *, success: float = SUCCESS, misplaced_is_missed: bool = False
) -> SilentNegatives:
    """Average precision and max-F1 where some clips have no source in view (SLAVC, section 4).

    A clip is *detected* at a threshold if its confidence reaches it. Detected and IoU >= `success`: true positive; detected otherwise
    (misplaced, or nothing was there): false positive; not detected though a source is in view: false negative. By the published
    definition a misplaced detection is no false negative, so recall can reach 1 with wrong places; `misplaced_is_missed`
    counts it as both, which is the usual recall. Every distinct confidence is a threshold (the released code takes about 200 of
    them, and leaves out the area left of the first), precision is interpolated (the best at this recall or beyond).

    Args:
        ious: (N,) consensus IoU; any number for silent negatives.
        confidences: (N,) how sure the model is that a source is in view.
        has_source: (N,) bool.
        success: IoU from which a place is right.
        misplaced_is_missed: see above.

    Raises:
        ValueError: lengths differ, nothing is there, or no clip has a source.
    """
    iou, sure, there = np.asarray(ious, dtype=float), np.asarray(confidences, dtype=float), np.asarray(has_source, dtype=bool)
    if not len(iou) == len(sure) == len(there) or not there.any():
        raise ValueError(
            f"need as many IoUs, confidences and marks, with a source in some: got {len(iou)}, {len(sure)}, {len(there)} ({int(there.sum())} with)"
        )
    order = np.argsort(-sure, kind="stable")
    right = (there & (iou >= success))[order]
    last = np.append(np.diff(sure[order]) != 0, True)  # clips of equal confidence are detected together
    true_pos = np.cumsum(right)[last].astype(float)
    detected = np.arange(1, len(iou) + 1)[last]
    undetected = there.sum() - np.cumsum(there[order])[last]
    missed = there.sum() - true_pos if misplaced_is_missed else undetected
    precision = true_pos / detected
    # Nothing found and nothing missed (all misplaced): recall is 0, not 0/0.
    recall = np.divide(true_pos, true_pos + missed, out=np.zeros_like(true_pos), where=true_pos + missed > 0)
    f1 = np.divide(2 * precision * recall, precision + recall, out=np.zeros_like(recall), where=precision + recall > 0)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    steps = np.diff(recall, prepend=0.0)
    return SilentNegatives(float((best * steps).sum()), float(f1.max()), float(sure[order][last][int(f1.argmax())]))


def _some(values: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if not array.size:
        raise ValueError("no clips to judge")
    return array
