"""Localization against the toy world's truth: which pixels show what is heard in a cut, and how well maps find them."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from mmssl.data.toyworld import load_truth
from mmssl.downstream.cuts import Cuts
from mmssl.downstream.heatmap import Placement
from mmssl.downstream.metrics.baselines import centre_map, motion_map
from mmssl.downstream.metrics.localization import pointing_hits, region_ious
from mmssl.downstream.pairing import CutShape
from mmssl.types import Frames, Source, Wave

TOLERANCE = 3 / 128  # of the picture's side: how far the maximum may miss in "pointing_near"
IOU_THRESHOLD = 0.5  # on the min-max normalised map

Mask = NDArray[np.bool_]


def known_truths(cuts: Cuts, shape: CutShape) -> dict[int, Mask]:
    """Row -> pixels (height, width of the cut's pictures) of what is heard in it, for the middle picture of the cut.

    Heard are the objects in view that are struck within the cut's window of sound. Rows without a known truth, in which nothing in view
    is struck or visible, or that show a region of the picture only are left out: pointing has no answer there.
    """
    found: dict[int, Mask] = {}
    for row, (source, plan) in enumerate(zip(cuts.sources, cuts.plans, strict=True)):
        pictures, wave = plan.requests[shape.video], plan.requests[shape.audio]
        assert isinstance(pictures, Frames) and isinstance(wave, Wave)
        if pictures.box is not None:
            continue
        mask = sounding_mask(source, pictures.times[len(pictures.times) // 2], wave.start, wave.seconds, shape.size)
        if mask is not None and mask.any():
            found[row] = mask
    return found


def sounding_mask(source: Source, moment: float, start: float, seconds: float, size: tuple[int, int]) -> Mask | None:
    """Pixels at `moment` of the objects struck in the window, in the largest centred box of `size`'s shape, scaled to `size`.

    None where no truth is known.
    """
    truth = load_truth(source.path)
    if truth is None:
        return None
    bodies = truth.sounding(start, start + seconds)
    mask = np.isin(truth.labels[truth.frame_at(moment)], [body + 1 for body in bodies])
    height, width = mask.shape
    scale = min(height / size[0], width / size[1])
    box = (round(size[0] * scale), round(size[1] * scale))
    top, left = (height - box[0]) // 2, (width - box[1]) // 2
    part = mask[top : top + box[0], left : left + box[1]].astype(np.uint8)
    return cv2.resize(part, (size[1], size[0]), interpolation=cv2.INTER_NEAREST).astype(bool)


def score_maps(
    cuts: Cuts,
    truths: dict[int, Mask],
    own: NDArray[np.float32],
    wrong: NDArray[np.float32],
    shape: CutShape,
    *,
    offset: float,
    stride: float,
    prior: NDArray[np.float32] | None = None,
) -> dict[str, dict[str, NDArray[np.float64]]]:
    """Measure -> map -> value for each row with a truth.

    Measures: "pointing" (the maximum lies on the source), "pointing_near" (at most `TOLERANCE` of the side beside it), "iou".
    Maps: "model", "wrong_sound" (the model's map under another source's sound), "centre", "motion", and "object_prior" where it is given.

    Args:
        cuts: with `after` for the motion baseline.
        truths: of `known_truths`.
        own, wrong: the model's maps (N, T', h, w).
        shape: of the cuts.
        offset, stride: of the encoder's grid.
        prior: the picture encoder's object prior (N, T', h, w).
    """
    rows = sorted(truths)
    masks = np.stack([truths[row] for row in rows])
    place = Placement((own.shape[2], own.shape[3]), offset=offset, stride=stride, seen=shape.size, shown=shape.size)
    middle = shape.frames // 2
    slot = middle * own.shape[1] // shape.frames  # a video encoder's grid may have fewer times than its clip
    maps = {
        "model": np.stack([place(own[row, slot]) for row in rows]),
        "wrong_sound": np.stack([place(wrong[row, slot]) for row in rows]),
        "centre": np.broadcast_to(centre_map(*shape.size), masks.shape),
    }
    if prior is not None:
        maps["object_prior"] = np.stack([place(prior[row, slot]) for row in rows])
    if cuts.after is not None:
        now, later = cuts.tensors[shape.video][rows, middle].numpy(), cuts.after[rows, middle].numpy()
        maps["motion"] = np.stack(
            [motion_map(a.transpose(1, 2, 0), b.transpose(1, 2, 0)) for a, b in zip(now, later, strict=True)]
        )
    near = TOLERANCE * min(shape.size)
    return {
        "pointing": {name: pointing_hits(values, masks) for name, values in maps.items()},
        "pointing_near": {name: pointing_hits(values, masks, tolerance=near) for name, values in maps.items()},
        "iou": {name: region_ious(values, masks, IOU_THRESHOLD) for name, values in maps.items()},
    }
