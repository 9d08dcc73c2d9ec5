"""How well masks are followed through a video: region similarity J, boundary accuracy F, their mean, recall and decay.

Perazzi et al., "A Benchmark Dataset and Evaluation Methodology for Video Object Segmentation", CVPR 2016, sections 4 and 5; for many objects
Pont-Tuset et al., "The 2017 DAVIS Challenge on Video Object Segmentation", arXiv:1704.00675. Written from these and from what the published evaluation
tools do, down to their choices:

- J of a frame is the intersection over the union; 1 where both are empty.
- F compares boundaries one pixel wide: a pixel is on it where it differs from its right, lower or lower right neighbour. Boundaries match
  within a disc of `ceil(0.008 * diagonal)` pixels. Both empty: F is 1; one of them empty: 0.
- Void pixels (255 in a truth) count for neither: they leave intersection and union, and both masks before the boundary is drawn.
- "semi-supervised" (DAVIS 2016's tool for all methods, and DAVIS 2017's for this task): the first frame, which was given, and the last one do not count.
  "all": every frame does (DAVIS 2017's tool for the unsupervised task).
- The figure of a data set is the mean over objects, each object of each sequence counting once, however long or large it is. Recall: share of frames
  above one half. Decay: mean of the first quarter of the frames less that of the last.

T frames, H x W pixels, K objects.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.integer]  # (T, H, W): 0 background, k object k, 255 void
Protocol = Literal["semi-supervised", "all"]

VOID = 255
TOLERANCE = 0.008  # of the diagonal
RECALL_AT = 0.5
BINS = 4  # of the frames, for the decay


class Scores(NamedTuple):
    """J and F of each object and counted frame, float64 (K, frames), and the numbers of the objects."""

    objects: tuple[int, ...]
    region: NDArray[np.float64]
    boundary: NDArray[np.float64]


class Summary(NamedTuple):
    """Means over objects: of J, F and J&F, of their recall and decay; and how many objects there were."""

    jf: float
    j_mean: float
    j_recall: float
    j_decay: float
    f_mean: float
    f_recall: float
    f_decay: float
    objects: int


def region_similarity(found: NDArray[np.bool_], true: NDArray[np.bool_], void: NDArray[np.bool_] | None = None) -> float:
    """J of one mask (H, W)."""
    counts = np.ones_like(true, dtype=bool) if void is None else ~void
    union = int(((found | true) & counts).sum())
    return 1.0 if union == 0 else int((found & true & counts).sum()) / union


def boundary_accuracy(found: NDArray[np.bool_], true: NDArray[np.bool_], void: NDArray[np.bool_] | None = None) -> float:
    """F of one mask (H, W): the harmonic mean of precision and recall of its boundary."""
    if void is not None:
        found, true = found & ~void, true & ~void
    drawn, wanted = outline(found), outline(true)
    if not drawn.any() and not wanted.any():
        return 1.0
    if not drawn.any() or not wanted.any():
        return 0.0
    disc = _disc(int(np.ceil(TOLERANCE * np.hypot(*true.shape))))
    precision = (drawn & _widened(wanted, disc)).sum() / drawn.sum()
    recall = (wanted & _widened(drawn, disc)).sum() / wanted.sum()
    return 0.0 if precision + recall == 0 else float(2 * precision * recall / (precision + recall))


def outline(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels (H, W) that differ from their right, lower or lower right neighbour; outside of the picture is like its border."""
    grown = np.pad(mask, ((0, 1), (0, 1)), mode="edge")
    return (mask != grown[:-1, 1:]) | (mask != grown[1:, :-1]) | (mask != grown[1:, 1:])


def score_sequence(
    found: Labels, true: Labels, *, protocol: Protocol = "semi-supervised", objects: Sequence[int] | None = None
) -> Scores:
    """J and F of all objects of one sequence.

    Args:
        found: what a tracker says (T, H, W).
        true: the truth (T, H, W).
        protocol: which frames count, see the module.
        objects: numbers that are scored; None: those that the truth names anywhere.

    Raises:
        ValueError: shapes differ, no object is named, or no frame is left to count.
    """
    if found.shape != true.shape or true.ndim != 3:
        raise ValueError(f"found {found.shape} and true {true.shape} must both be (T, H, W) of the same video")
    objects = tuple(int(k) for k in (np.unique(true) if objects is None else objects) if k not in (0, VOID))
    if not objects:
        raise ValueError("the truth names no object: there is nothing to score")
    if protocol == "semi-supervised":
        found, true = found[1:-1], true[1:-1]
    if not len(true):
        raise ValueError("a semi-supervised sequence needs at least 3 frames: its first and last do not count")
    region, boundary = np.zeros((2, len(objects), len(true)))
    for frame, (says, is_) in enumerate(zip(found, true, strict=True)):
        void = is_ == VOID
        for place, number in enumerate(objects):
            region[place, frame] = region_similarity(says == number, is_ == number, void)
            boundary[place, frame] = boundary_accuracy(says == number, is_ == number, void)
    return Scores(objects, region, boundary)


def recall(values: NDArray[np.float64]) -> float:
    """Share of frames (T,) above one half."""
    return float((values > RECALL_AT).mean())


def decay(values: NDArray[np.float64]) -> float:
    """Mean of the first quarter of the frames (T,) less that of the last; neighbouring quarters share the frame between them, as in the tools."""
    edges = np.floor(np.linspace(1, len(values), BINS + 1) + 0.5).astype(int) - 1
    return float(values[edges[0] : edges[1] + 1].mean() - values[edges[-2] : edges[-1] + 1].mean())


def summarize(sequences: Mapping[str, Scores] | Sequence[Scores]) -> Summary:
    """Mean over all objects of all sequences, each counting once.

    Raises:
        ValueError: there is no sequence.
    """
    scores = list(sequences.values()) if isinstance(sequences, Mapping) else list(sequences)
    if not scores:
        raise ValueError("no sequences to summarize")
    rows = {"j": [row for score in scores for row in score.region], "f": [row for score in scores for row in score.boundary]}
    j_mean, f_mean = (float(np.mean([row.mean() for row in rows[key]])) for key in ("j", "f"))
    return Summary(
        jf=(j_mean + f_mean) / 2,
        j_mean=j_mean,
        j_recall=float(np.mean([recall(row) for row in rows["j"]])),
        j_decay=float(np.mean([decay(row) for row in rows["j"]])),
        f_mean=f_mean,
        f_recall=float(np.mean([recall(row) for row in rows["f"]])),
        f_decay=float(np.mean([decay(row) for row in rows["f"]])),
        objects=len(rows["j"]),
    )


def _disc(radius: int) -> NDArray[np.uint8]:
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    return (x * x + y * y <= radius * radius).astype(np.uint8)


def _widened(line: NDArray[np.bool_], disc: NDArray[np.uint8]) -> NDArray[np.bool_]:
    return cv2.dilate(line.astype(np.uint8), disc).astype(bool)
