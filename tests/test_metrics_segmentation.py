from __future__ import annotations

import math

import numpy as np
import pytest

from mmssl.downstream.metrics.segmentation import (
    Scores,
    boundary_accuracy,
    decay,
    outline,
    recall,
    region_similarity,
    score_sequence,
    summarize,
)


def square(top: int, left: int, side: int, shape=(60, 80)) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    mask[top : top + side, left : left + side] = True
    return mask


EMPTY = np.zeros((60, 80), dtype=bool)


# One frame ---------------------------------------------------------------------------------------------------------------


def test_region_similarity_by_hand():
    one = square(10, 10, 10)
    assert region_similarity(one, one) == 1.0
    assert region_similarity(one, square(10, 15, 10)) == pytest.approx(50 / 150)
    assert region_similarity(one, square(40, 40, 10)) == 0.0
    assert region_similarity(EMPTY, one) == region_similarity(one, EMPTY) == 0.0
    assert region_similarity(EMPTY, EMPTY) == 1.0


def test_void_pixels_count_for_neither():
    one, other = square(10, 10, 10), square(10, 15, 10)
    void = np.zeros_like(one)
    void[:, 15:20] = True  # all that they share
    assert region_similarity(one, other, void) == 0.0
    assert region_similarity(one, other, ~void) == 1.0
    assert region_similarity(one, other, np.ones_like(one)) == 1.0, "an empty union"
    blot = one | square(40, 60, 8)
    assert boundary_accuracy(blot, one) < 0.9
    assert boundary_accuracy(blot, one, square(38, 58, 12)) == 1.0


def test_boundary_accuracy_of_nothing_and_of_one():
    one = square(10, 10, 10)
    assert boundary_accuracy(one, one) == 1.0
    assert boundary_accuracy(EMPTY, EMPTY) == 1.0
    assert boundary_accuracy(EMPTY, one) == boundary_accuracy(one, EMPTY) == 0.0
    assert boundary_accuracy(~EMPTY, EMPTY) == 1.0, "a mask of the whole picture has no boundary"
    assert boundary_accuracy(one, square(45, 60, 10)) == 0.0


@pytest.mark.parametrize(("shape", "tolerance"), [((480, 854), 8), ((480, 910), 9), ((100, 100), 2), ((128, 128), 2)])
def test_boundaries_match_within_the_published_tolerance(shape, tolerance):
    assert tolerance == math.ceil(0.008 * math.hypot(*shape))
    left = np.zeros(shape, dtype=bool)
    left[:, : shape[1] // 2] = True

    def moved(by: int) -> np.ndarray:
        other = np.zeros(shape, dtype=bool)
        other[:, : shape[1] // 2 + by] = True
        return other

    assert boundary_accuracy(moved(tolerance), left) == 1.0
    assert boundary_accuracy(moved(tolerance + 1), left) == 0.0


def test_the_tolerance_is_a_disc_not_a_square():
    shape = (480, 854)  # 8 pixels: (6, 5) is within, (6, 6) is not
    dot = np.zeros(shape, dtype=bool)
    dot[200, 300] = True
    for down, right, matches in ((6, 5, True), (7, 7, False), (8, 0, True), (8, 4, False)):
        other = np.roll(dot, (down, right), (0, 1))
        # A dot has four boundary pixels in a 2 x 2 square, all displaced alike: outer ones of near pairs may still match.
        alike = boundary_accuracy(other, dot)
        assert (alike == 1.0) == matches, (down, right, alike)


def test_precision_and_recall_are_weighed_by_their_harmonic_mean():
    one, more = square(10, 10, 10), square(10, 10, 10) | square(40, 50, 10)
    lines = [int(outline(m).sum()) for m in (one, more)]
    precision, found = lines[0] / lines[1], 1.0
    assert boundary_accuracy(more, one) == pytest.approx(2 * precision * found / (precision + found))
    assert boundary_accuracy(one, more) == pytest.approx(boundary_accuracy(more, one))


def naive_outline(mask: np.ndarray) -> np.ndarray:
    height, width = mask.shape
    line = np.zeros_like(mask)
    for y in range(height):
        for x in range(width):
            for down, right in ((0, 1), (1, 0), (1, 1)):
                # In the last row only the right neighbour is compared, in the last column only the lower one.
                if y + down < height and x + right < width and mask[y, x] != mask[y + down, x + right]:
                    line[y, x] = True
    return line


def naive_boundary(found: np.ndarray, true: np.ndarray) -> float:
    limit = math.ceil(0.008 * math.hypot(*true.shape))
    a, b = np.argwhere(naive_outline(found)), np.argwhere(naive_outline(true))
    if not len(a) or not len(b):
        return float(len(a) == len(b))
    near = ((a[:, None] - b[None]) ** 2).sum(2) <= limit**2
    precision, found_share = near.any(1).mean(), near.any(0).mean()
    return 0.0 if precision + found_share == 0 else 2 * precision * found_share / (precision + found_share)


@pytest.mark.parametrize("seed", range(6))
def test_random_masks_match_the_loops(seed):
    rng = np.random.default_rng(seed)
    found, true = (np.kron(rng.random((6, 8)) < 0.3, np.ones((7, 7))).astype(bool)[:40, :53] for _ in range(2))
    np.testing.assert_array_equal(outline(true), naive_outline(true))
    assert boundary_accuracy(found, true) == pytest.approx(naive_boundary(found, true))


# Sequences ---------------------------------------------------------------------------------------------------------------


def sequence(frames: int = 6) -> np.ndarray:
    labels = np.zeros((frames, 60, 80), dtype=np.uint8)
    for t in range(frames):
        labels[t, 10:20, 10 + t : 20 + t] = 1
        labels[t, 40:45, 30:40] = 7
    return labels


def test_the_first_and_the_last_frame_do_not_count_where_the_first_is_given():
    true, found = sequence(), sequence()
    found[0] = found[-1] = 0
    scores = score_sequence(found, true)
    assert scores.objects == (1, 7)
    assert scores.region.shape == scores.boundary.shape == (2, 4)
    assert (scores.region == 1).all() and (scores.boundary == 1).all()
    every = score_sequence(found, true, protocol="all")
    assert every.region.shape == (2, 6)
    np.testing.assert_array_equal(every.region[0], [0, 1, 1, 1, 1, 0])


def test_objects_that_are_exchanged_or_lost_are_wrong():
    true = sequence()
    exchanged = np.where(true == 1, 7, np.where(true == 7, 1, 0))
    assert score_sequence(exchanged, true).region.max() == 0.0
    lost = np.where(true == 7, 0, true)
    assert score_sequence(lost, true).region.mean(axis=1).tolist() == [1.0, 0.0]
    third = true.copy()
    third[:, 0:3, 0:3] = 3  # nobody's: costs no object anything
    assert score_sequence(third, true).region.min() == 1.0


def test_void_of_a_sequence_is_no_object():
    true, found = sequence(), sequence()
    true[:, 50:, :] = 255
    found[:, 50:, :] = 1
    scores = score_sequence(found, true)
    assert scores.objects == (1, 7)
    assert scores.region.min() == 1.0


def test_an_object_that_leaves_counts_as_long_as_it_is_not_claimed():
    true = sequence()
    true[3:][true[3:] == 7] = 0
    scores = score_sequence(true, true)
    assert scores.region.min() == 1.0
    scores = score_sequence(sequence(), true)
    assert scores.region[1].tolist() == [1.0, 1.0, 0.0, 0.0]


def test_recall_and_decay_by_hand():
    values = np.array([1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2])
    assert recall(values) == pytest.approx(5 / 9), "one half itself is not above one half"
    # Edges 0, 2, 4, 6, 8: the first quarter is frames 0..2, the last one 6..8.
    assert decay(values) == pytest.approx(0.9 - 0.3)
    assert decay(np.full(50, 0.4)) == pytest.approx(0.0)
    assert decay(values[::-1]) < 0, "who gets better decays negatively"


@pytest.mark.parametrize("frames", [4, 5, 7, 38, 48, 300])
def test_quarters_lie_where_the_published_tools_put_them(frames):
    # Their edges, rounded half up, counted from 1.
    edges = [math.floor(1 + k * (frames - 1) / 4 + 0.5) - 1 for k in range(5)]
    values = np.random.default_rng(frames).random(frames)
    wanted = values[edges[0] : edges[1] + 1].mean() - values[edges[3] : edges[4] + 1].mean()
    assert decay(values) == pytest.approx(wanted)


def test_each_object_counts_once_however_long_its_sequence_is():
    short = Scores((1,), np.zeros((1, 5)), np.zeros((1, 5)))
    long = Scores((1, 2), np.ones((2, 500)), np.full((2, 500), 0.7))
    summary = summarize({"short": short, "long": long})
    assert summary.objects == 3
    assert summary.j_mean == pytest.approx(2 / 3)
    assert summary.f_mean == pytest.approx(1.4 / 3)
    assert summary.jf == pytest.approx((2 / 3 + 1.4 / 3) / 2)
    assert summary.j_recall == summary.f_recall == pytest.approx(2 / 3)
    assert summarize([short]).jf == 0.0


def test_bad_input_is_named():
    true = sequence()
    with pytest.raises(ValueError, match=r"must both be \(T, H, W\)"):
        score_sequence(true[1:], true)
    with pytest.raises(ValueError, match="names no object"):
        score_sequence(true, np.zeros_like(true))
    with pytest.raises(ValueError, match="at least 3 frames"):
        score_sequence(true[:2], true[:2])
    with pytest.raises(ValueError, match="no sequences"):
        summarize({})
