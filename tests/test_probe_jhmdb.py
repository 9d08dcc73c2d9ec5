"""PCK on JHMDB as the published code computes it: a naive twin, files made by hand, and the protocol that must be met before its name is used."""

from __future__ import annotations

import csv
import io
import math

import cv2
import numpy as np
import pytest
from scipy.io import savemat

from mmssl.downstream.follow import Sight
from mmssl.downstream.metrics.keypoints import joint_distances, pck, person_size
from mmssl.downstream.probe import jhmdb as probe
from mmssl.downstream.probe.jhmdb import JOINTS, evaluate_jhmdb, open_jhmdb, read_posed
from mmssl.downstream.probe.trackers import BASELINES, Tracker, by_features
from mmssl.downstream.propagate import Propagation
from mmssl.types import InputError, MediaError
from tests.moving_squares import Patches, film

RNG = np.random.default_rng(0)


def published(videos, threshold: float) -> float:
    """The published code, as loops: videos of (found, true, given)."""
    distances: list[list[float]] = [[] for _ in JOINTS]
    for found, true, given in videos:
        for t in range(1, len(true)):
            joints = [tuple(true[t, k]) for k in range(len(JOINTS)) if given[k]]
            width = max(x for x, _ in joints) - min(x for x, _ in joints)
            height = max(y for _, y in joints) - min(y for _, y in joints)
            size = 0.6 * math.sqrt(width**2 + height**2)
            for k in range(len(JOINTS)):
                if given[k]:
                    distances[k].append(math.dist(found[t, k], true[t, k]) / size)
    shares = [sum(d <= threshold for d in line) / len(line) for line in distances if line]
    return sum(shares) / len(shares)


def test_pck_is_that_of_the_published_code():
    videos = []
    for frames in (5, 9, 3):
        true = RNG.uniform(0, 200, (frames, 15, 2))
        given = RNG.random(15) < 0.7
        given[:2] = True, False
        videos.append((true + RNG.normal(0, 40, true.shape), true, given))
    distances = [joint_distances(*video) for video in videos]
    for threshold in (0.1, 0.2, 0.3, 0.4, 0.5):
        assert pck(distances, threshold)[0] == pytest.approx(published(videos, threshold))
    shares = pck(distances, 0.2)[1]
    assert np.isnan(shares[1]) and not np.isnan(shares[0])


def test_distances_by_hand():
    true = np.zeros((3, 3, 2))
    true[:, 1] = 30, 40  # the box's diagonal is 50, the person's size 30
    true[:, 2] = 500, 0  # not given: counts for nothing
    given = np.array([True, True, False])
    assert person_size(true, given) == pytest.approx([30, 30, 30])
    found = true.copy()
    found[1, 0] = 3, 0
    found[2, 0] = np.nan
    rows = joint_distances(found, true, given)
    np.testing.assert_allclose(rows, [[0.1, 0, np.nan], [np.inf, 0, np.nan]])
    assert pck([rows], 0.1) == (pytest.approx(0.75), pytest.approx([0.5, 1.0, np.nan], nan_ok=True))
    assert pck([rows], 0.09)[0] == 0.5
    for bad in ((found[1:], true, given), (found, true, given[1:])):
        with pytest.raises(ValueError, match="must be"):
            joint_distances(*bad)
    with pytest.raises(ValueError, match="no joint was given"):
        joint_distances(found, true, given & False)
    with pytest.raises(ValueError, match="no videos"):
        pck([], 0.1)


def test_a_person_in_one_point_has_no_size():
    true = np.full((2, 2, 2), 7.0)
    found = true.copy()
    found[1, 1] += 0.01
    np.testing.assert_array_equal(joint_distances(found, true, np.array([True, True])), [[0, np.inf]])


# Files -------------------------------------------------------------------------------------------------------------------


def joints_of(masks) -> np.ndarray:
    """(T, 15, 2): joints on the two squares; the last one is far outside of the picture, the one before it just outside."""
    places = []
    for mask in masks:
        corners = [np.argwhere(mask == k).min(axis=0)[::-1] for k in (1, 2)]
        places.append([corners[k % 2] + (3 + k % 7, 4 + k % 5) for k in range(13)] + [(-1.0, 30.0), (400.0, 400.0)])
    return np.array(places, dtype=np.float64)


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Two test videos of two classes, and one for training."""
    monkeypatch.setattr(probe, "VIDEOS", 2)
    pictures, masks = film(frames=6, size=(64, 96))
    for kind, name in (("run", "one"), ("sit", "two"), ("sit", "three")):
        frames = tmp_path / "Rename_Images" / kind / name
        frames.mkdir(parents=True)
        for number, picture in enumerate(pictures, start=1):
            cv2.imwrite(str(frames / f"{number:05d}.png"), picture[..., ::-1])
        (tmp_path / "joint_positions" / kind / name).mkdir(parents=True)
        counted_from_one = (joints_of(masks)[:5] + 1).transpose(2, 1, 0)  # of one frame less, as some are
        savemat(tmp_path / "joint_positions" / kind / name / "joint_positions.mat", {"pos_img": counted_from_one, "scale": 1.0})
    (tmp_path / "splits").mkdir()
    (tmp_path / "splits" / "run_test_split1.txt").write_text("one.avi 2\n")
    (tmp_path / "splits" / "sit_test_split1.txt").write_text("three.avi 1\ntwo.avi 2\n\n")
    (tmp_path / "splits" / "sit_test_split2.txt").write_text("three.avi 2\ntwo.avi 1\n")
    return tmp_path


def test_videos_and_joints_are_read(root):
    found = open_jhmdb(root)
    assert found.videos == ("run/one", "sit/two") and found.name == "JHMDB test split 1"
    video = read_posed(root, "sit/two")
    np.testing.assert_allclose(video.joints, joints_of(film(frames=6)[1])[:5])
    assert video.given.tolist() == [True] * 14 + [False], "just outside of the picture still counts, as in the published code"
    assert len(list(video.play())) == 5


def test_who_knows_is_right_and_who_loses_is_wrong(root):
    truth = joints_of(film(frames=6)[1])[:5]

    def knows(frames, points):
        for number, _ in enumerate(frames):
            yield truth[number].copy()

    def loses(frames, points):
        for now in knows(frames, points):
            now[:, 0] = np.where(np.arange(15) == 2, np.nan, now[:, 0])
            yield now

    figures = evaluate_jhmdb(open_jhmdb(root), [Tracker("knows", None, knows), Tracker("loses", None, loses), *BASELINES])
    content = figures.as_json()
    trackers = content["trackers"]
    assert set(trackers["knows"]["PCK"].values()) == {1.0}
    assert trackers["loses"]["PCK"]["0.1"] == pytest.approx(13 / 14)
    assert trackers["loses"]["lost"] == 8 and trackers["loses"]["counted"] == 2 * 4 * 14
    assert trackers["loses"]["joints"]["face"]["0.5"] == 0.0 and trackers["knows"]["joints"]["left ankle"]["0.1"] is None
    # By hand: the first thirteen joints move by 4 pixels a frame, the fourteenth stays where it is.
    sizes = [person_size(truth, np.arange(15) < 14)[t] for t in range(1, 5)]
    right = sum(4 * t <= 0.1 * size for t, size in enumerate(sizes, start=1)) / 4
    assert trackers["identity"]["PCK"]["0.1"] == pytest.approx((13 * right + 1) / 14)
    rows = list(csv.DictReader(io.StringIO(figures.as_csv())))
    assert len(rows) == 8 and rows[2] == {
        "tracker": "loses", "video": "run/one", "frames": "4", "joints": "14",
        **{f"PCK@{at}": f"{13 / 14:.6f}" for at in (0.1, 0.2, 0.3, 0.4, 0.5)},
    }  # fmt: skip


def test_an_encoder_that_sees_follows_joints_better_than_standing_still(root):
    sight = Sight(Patches().eval(), None, None)
    tracker = by_features("patches", sight, Propagation(radius=6, context=2))
    found = evaluate_jhmdb(open_jhmdb(root), [BASELINES[0], tracker]).as_json()["trackers"]
    assert sight.encoder.seen[0].shape[-2:] == (320, 320), "squeezed as in the published evaluations"
    assert found["patches"]["PCK"]["0.1"] > found["identity"]["PCK"]["0.1"] + 0.2


def test_what_is_not_the_benchmark_never_bears_its_name(root):
    (root / "joint_positions/run/one/joint_positions.mat").unlink()
    with pytest.raises(InputError, match=r"1 of them lack frames or joints \(run/one\); add --allow-missing"):
        open_jhmdb(root)
    found = open_jhmdb(root, allow_missing=True)
    assert found.name == "1 videos of JHMDB test split 1 (it has 2), not the benchmark"
    assert evaluate_jhmdb(found, [BASELINES[0]]).as_json()["benchmark"] is False
    (root / "splits/run_test_split1.txt").unlink()
    with pytest.raises(InputError, match="its lists name 1 test videos instead of 2"):
        open_jhmdb(root)
    with pytest.raises(InputError, match="is no JHMDB"):
        open_jhmdb(root / "splits")
    (root / "splits/sit_test_split1.txt").write_text("nothing.avi 2\n")
    with pytest.raises(InputError, match="holds no video"):
        open_jhmdb(root, allow_missing=True)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: path.write_bytes(b""), "holds no joints that can be read"),
        (
            lambda path: path.write_text("a text file called .mat, long enough to have a header of some 128 bytes" * 3),
            "holds no joints",
        ),
        (lambda path: path.write_bytes(path.read_bytes()[:400]), "holds no joints"),
        (lambda path: savemat(path, {"pos_world": np.zeros((2, 15, 5))}), "holds no joints that can be read .KeyError"),
        (lambda path: savemat(path, {"pos_img": np.zeros((2, 14, 5))}), r"holds pos_img of \(2, 14, 5\)"),
        (lambda path: savemat(path, {"pos_img": np.full((2, 15, 5), np.nan)}), "should be finite"),
        (lambda path: savemat(path, {"pos_img": np.ones((2, 15, 9))}), "has 6 frames, and joints of 9"),
        (lambda path: savemat(path, {"pos_img": np.full((2, 15, 5), -500.0)}), "no joint in view"),
    ],
)
def test_joints_that_cannot_be_read_are_told(root, make, words):
    make(root / "joint_positions/run/one/joint_positions.mat")
    with pytest.raises(MediaError, match=words):
        evaluate_jhmdb(open_jhmdb(root), [BASELINES[0]])


def test_flow_carries_points_where_the_whole_picture_moves():
    wide = cv2.resize(RNG.integers(0, 256, (20, 44, 3)).astype(np.uint8), None, fx=8, fy=8, interpolation=cv2.INTER_CUBIC)
    pictures = [np.ascontiguousarray(wide[:, 5 * t : 5 * t + 256]) for t in range(6)]
    points = np.array([[120.0, 60.0], [200.5, 100.0], [np.nan, np.nan]])
    *_, last = BASELINES[1].points(iter(pictures), points)
    np.testing.assert_allclose(last[:2], points[:2] - (25, 0), atol=1.0)
    assert np.isnan(last[2]).all()
    *_, stayed = BASELINES[0].points(iter(pictures), points)
    np.testing.assert_array_equal(stayed, points)
