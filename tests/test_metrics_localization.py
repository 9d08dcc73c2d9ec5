import numpy as np
import pytest

from mmssl.downstream.metrics.baselines import centre_map, motion_map, object_prior_map
from mmssl.downstream.metrics.localization import (
    auc,
    ciou,
    consensus_iou,
    iou_at,
    median_regions,
    normalize_map,
    pointing_hits,
    silent_negatives,
)
from mmssl.rng import rng_for


def left_half(n=1, side=224):
    truth = np.zeros((n, side, side), dtype=np.float32)
    truth[:, :, : side // 2] = 1
    return truth


def test_normalize_is_defined_for_a_constant_map():
    assert normalize_map(np.full((3, 3), 7.0)).tolist() == np.zeros((3, 3)).tolist()
    assert normalize_map(np.array([[1.0, 3.0]])).tolist() == [[0.0, 1.0]]


def test_the_median_region_is_half_of_the_picture_and_a_constant_map_claims_nothing():
    ramp = np.tile(np.arange(14.0)[::-1], (14, 1))  # highest at the left
    regions = median_regions(np.stack([ramp, np.zeros((14, 14))]))
    # bilinear resizing is flat for 8 columns at each border; the middle is strict, so exactly the left half remains
    assert regions[0].mean() == pytest.approx(0.5, abs=0.005)
    assert regions[0][:, :110].all()
    assert not regions[0][:, 114:].any()
    assert not regions[1].any()


def test_consensus_iou_by_hand():
    region = np.array([[[1, 1], [0, 0]]], dtype=bool)
    truth = np.array([[[0.5, 0.0], [1.0, 0.0]]])  # inside 0.5, truth 1.5, one false pixel
    assert consensus_iou(region, truth) == pytest.approx([0.5 / 2.5])


def test_each_map_is_judged_by_its_own_truth():
    maps = np.zeros((2, 14, 14))
    maps[0, :, :7], maps[1, :, 7:] = 1.0, 1.0
    truths = np.concatenate([left_half(), 1 - left_half()])
    own = consensus_iou(median_regions(maps), truths)
    assert (own > 0.9).all()
    assert (consensus_iou(median_regions(maps), truths[::-1]) < 0.1).all()
    assert own == pytest.approx([consensus_iou(median_regions(maps[i : i + 1]), truths[i : i + 1])[0] for i in range(2)])


def test_consensus_iou_refuses_unclipped_votes_and_other_shapes():
    with pytest.raises(ValueError, match="0, 1"):
        consensus_iou(np.ones((1, 2, 2), bool), np.full((1, 2, 2), 2.0))
    with pytest.raises(ValueError, match="shape"):
        consensus_iou(np.ones((1, 2, 2), bool), np.ones((2, 2, 2)))


def test_ciou_and_auc_match_a_naive_count():
    values = rng_for(0, "iou").uniform(size=200)
    shares = [np.mean([v >= 0.05 * i for v in values]) for i in range(21)]
    naive = sum((shares[i] + shares[i + 1]) / 2 * 0.05 for i in range(20))
    assert auc(values) == pytest.approx(naive)
    assert ciou(values) == pytest.approx(shares[10])
    assert auc([1.0]) == pytest.approx(1.0)
    assert auc([0.0]) == pytest.approx(0.025)  # all clips reach the threshold 0
    assert auc([0.15]) == pytest.approx(0.05 * 3 + 0.025)
    with pytest.raises(ValueError, match="no clips"):
        ciou([])


def test_iou_at_fixed_thresholds_leaves_out_silent_negatives():
    truth = np.concatenate([left_half(side=10), np.zeros((1, 10, 10))])
    maps = np.stack([np.tile(np.linspace(1, 0, 10), (10, 1)), np.ones((10, 10))])
    found = iou_at(maps, truth, (0.5,))
    assert found == {0.5: pytest.approx(1.0)}
    assert iou_at(np.ones((1, 10, 10)), truth[:1], (0.0, 0.5)) == {0.0: 0.0, 0.5: 0.0}
    with pytest.raises(ValueError, match="empty"):
        iou_at(maps[1:], truth[1:])


def test_pointing_with_tolerance_and_ties():
    truth = np.zeros((3, 20, 20))
    truth[:2, 5:10, 5:10] = 1
    maps = np.zeros((3, 20, 20))
    maps[0, 7, 12] = 1.0  # three pixels right of the source
    assert pointing_hits(maps, truth)[0] == 0.0
    assert pointing_hits(maps, truth, tolerance=2.9)[0] == 0.0
    assert pointing_hits(maps, truth, tolerance=3.0)[0] == 1.0
    assert pointing_hits(maps, truth)[1] == pytest.approx(25 / 400)  # constant: chance, not a lucky corner
    assert np.isnan(pointing_hits(maps, truth)[2])


def naive_silent(ious, confidences, there, misplaced_is_missed):
    precisions, recalls = [], []
    for threshold in sorted(set(confidences), reverse=True):
        tp = sum(c >= threshold and t and i >= 0.5 for i, c, t in zip(ious, confidences, there, strict=True))
        fp = sum(c >= threshold and not (t and i >= 0.5) for i, c, t in zip(ious, confidences, there, strict=True))
        fn = sum(c < threshold and t for c, t in zip(confidences, there, strict=True))
        if misplaced_is_missed:
            fn = sum(there) - tp
        precisions.append(tp / (tp + fp))
        recalls.append(tp / (tp + fn) if tp + fn else 0.0)
    f1 = max(2 * p * r / (p + r) if p + r else 0.0 for p, r in zip(precisions, recalls, strict=True))
    best = [max(precisions[i:]) for i in range(len(precisions))]
    ap = sum(p * (r - before) for p, r, before in zip(best, recalls, [0.0, *recalls[:-1]], strict=True))
    return ap, f1


@pytest.mark.parametrize("misplaced_is_missed", [False, True])
@pytest.mark.parametrize("seed", range(8))
def test_silent_negatives_match_the_naive_count(seed, misplaced_is_missed):
    rng = rng_for(seed, "slavc")
    ious, confidences = rng.uniform(size=40), rng.integers(12, size=40) / 12  # with ties
    there = rng.uniform(size=40) < 0.6
    found = silent_negatives(ious, confidences, there, misplaced_is_missed=misplaced_is_missed)
    assert (found.average_precision, found.max_f1) == pytest.approx(naive_silent(ious, confidences, there, misplaced_is_missed))


def test_silent_negatives_reward_confidence_that_knows():
    ious, there = np.ones(10), np.arange(10) < 5
    knows = silent_negatives(ious, there.astype(float), there)
    assert knows == (1.0, 1.0, 1.0)
    blind = silent_negatives(ious, np.ones(10), there)
    assert blind.average_precision == pytest.approx(0.5)
    assert blind.max_f1 == pytest.approx(2 / 3)
    with pytest.raises(ValueError, match="source"):
        silent_negatives(ious, ious, np.zeros(10, bool))


def test_baselines_point_where_they_say():
    assert np.unravel_index(centre_map(9, 15).argmax(), (9, 15)) == (4, 7)
    grid = np.zeros((2, 4, 4, 3))
    grid[1, 2, 3] = -5
    assert np.unravel_index(object_prior_map(grid)[1].argmax(), (4, 4)) == (2, 3)
    before = np.zeros((32, 32, 3), np.uint8)
    after = before.copy()
    after[20:24, 6:10] = 255
    y, x = np.unravel_index(motion_map(before, after).argmax(), (32, 32))
    assert 20 <= y < 24
    assert 6 <= x < 10
