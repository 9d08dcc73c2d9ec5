from __future__ import annotations

import math

import cv2
import numpy as np
import pytest

from mmssl.data.decode import answer
from mmssl.data.flow import estimate
from mmssl.data.toyworld.truth import load_truth
from mmssl.downstream.metrics.flow import TrueFlow, endpoint_error, endpoint_errors, outliers, read_flo, read_kitti_flow, toy_flow
from mmssl.types import Flow, MediaError, Source


def field(*vectors: tuple[float, float]) -> np.ndarray:
    """(2, 1, n)."""
    return np.array(vectors, np.float32).T[:, None]


def true(*vectors: tuple[float, float], valid=None) -> TrueFlow:
    return TrueFlow(field(*vectors), np.ones((1, len(vectors)), bool) if valid is None else np.array([valid]))


def test_end_point_error_is_the_mean_distance_over_what_is_known():
    want = true((0, 0), (3, 4), (1, 1), valid=[True, True, False])
    got = field((0, 1), (0, 0), (99, 99))
    assert endpoint_errors(got, want).tolist() == [1.0, 5.0]
    assert endpoint_error(got, want) == 3.0
    assert math.isnan(endpoint_error(got, true((0, 0), (3, 4), (1, 1), valid=[False] * 3)))
    assert endpoint_error(got.astype(np.float16), want) == 3.0


def test_an_outlier_is_off_by_three_pixels_and_by_a_twentieth():
    want = true((0, 0), (0, 0), (100, 0), (100, 0), (50, 0), (0, 0))
    got = field((3, 0), (3.1, 0), (104, 0), (105.1, 0), (53.1, 0), (0, 0))
    # exactly 3: no; 3.1 of 0: yes; 4 of 100: no; 5.1 of 100: yes; 3.1 of 50: yes; 0: no
    assert outliers(got, want) == pytest.approx(3 / 6)
    assert math.isnan(outliers(got, true(*[(0, 0)] * 6, valid=[False] * 6)))


def test_flo_files_are_read_with_unknown_pixels(tmp_path):
    flow = np.arange(12, dtype="<f4").reshape(2, 3, 2)
    flow[1, 2] = 1.7e9
    flow[0, 1, 0] = np.nan
    path = tmp_path / "a.flo"
    path.write_bytes(b"PIEH" + np.array([3, 2], "<i4").tobytes() + flow.tobytes())
    found = read_flo(path)
    assert found.flow.shape == (2, 2, 3)
    assert found.valid.tolist() == [[True, False, True], [True, True, False]]
    assert found.flow[:, 1, 0].tolist() == [6.0, 7.0]
    assert np.isfinite(found.flow).all()


def test_kitti_files_are_read(tmp_path):
    flow = np.array([[[1.5, -2.25], [0.0, 0.0]]], np.float32)  # (1, 2, 2): right, down
    red_green = np.rint(flow * 64 + 2**15).astype(np.uint16)
    blue = np.array([[[1], [0]]], np.uint16)
    cv2.imwrite(str(tmp_path / "a.png"), np.concatenate([blue, red_green[..., 1:], red_green[..., :1]], axis=2))
    found = read_kitti_flow(tmp_path / "a.png")
    assert found.valid.tolist() == [[True, False]]
    assert found.flow[:, 0, 0].tolist() == [1.5, -2.25]


def test_other_files_are_refused(tmp_path):
    (tmp_path / "a.flo").write_bytes(b"PIEH" + np.array([3, 2], "<i4").tobytes())
    (tmp_path / "b.flo").write_bytes(b"else")
    cv2.imwrite(str(tmp_path / "c.png"), np.zeros((4, 4, 3), np.uint8))
    (tmp_path / "d.png").write_bytes(b"no picture")
    for name, read, says in (
        ("a.flo", read_flo, "3 x 2 pixels of flow and holds 12 bytes"),
        ("b.flo", read_flo, "does not begin with"),
        ("none.flo", read_flo, "No such file"),
        ("c.png", read_kitti_flow, "16 bits"),
        ("d.png", read_kitti_flow, "no KITTI flow"),
    ):
        with pytest.raises(MediaError, match=says):
            read(tmp_path / name)


def test_the_toy_worlds_flow_is_what_its_films_show(toy):
    """On objects: their small, dim background moves by a sixth of a pixel from one frame to the next."""
    found = still = 0.0
    for video in sorted(toy.glob("*.mp4"))[:4]:
        truth = load_truth(video)
        assert truth is not None
        for frame in (5, 20):
            want = toy_flow(truth, frame)
            want = TrueFlow(want.flow, want.valid & (truth.labels[frame] > 0))
            request = Flow((frame / truth.fps,), 1 / truth.fps, truth.labels.shape[1:])
            got = answer(Source(video.stem, video), [request])[request][0].numpy()
            found += endpoint_error(got, want)
            still += endpoint_error(np.zeros_like(got), want)
    assert 0 < found < 0.6 * still, (found, still)
    assert toy_flow(truth, 3).flow == pytest.approx(truth.flow(3))
    with pytest.raises(IndexError, match=r"flow\(38, 2\)"):
        toy_flow(truth, 38, 2)


def test_real_flow_is_read_and_dis_comes_near_it(media):
    pair = [cv2.cvtColor(cv2.imread(str(media / "flow/Middlebury" / f"RubberWhale{n}.png")), cv2.COLOR_BGR2RGB) for n in (1, 2)]
    want = read_flo(media / "flow/Middlebury/flow_gt.flo")
    found = estimate([(pair[0], pair[1])])[0].transpose(2, 0, 1)
    assert endpoint_error(found, want) < 0.5 * endpoint_error(np.zeros_like(found), want)
    kitti = read_kitti_flow(media / "flow/KITTI/flow_gt.png")
    assert 0.1 < kitti.valid.mean() < 1.0 and 1.0 < np.hypot(*kitti.flow)[kitti.valid].mean() < 200.0
