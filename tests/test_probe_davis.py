"""DAVIS by its published definitions: a naive twin of the official tools, and the protocol that must be met before its name is used."""

from __future__ import annotations

import csv
import io
import math

import cv2
import numpy as np
import pytest
from PIL import Image

from mmssl.downstream.follow import Sight
from mmssl.downstream.palette import write_mask
from mmssl.downstream.probe import davis as probe
from mmssl.downstream.probe.davis import VAL, evaluate_davis, open_davis
from mmssl.downstream.probe.trackers import BASELINES, Tracker, by_features
from mmssl.downstream.propagate import Propagation
from mmssl.types import InputError, MediaError
from tests.moving_squares import Patches, film
from tests.test_metrics_segmentation import naive_boundary

SMALL = {"alpha": 6, "beta": 7}


def write_sequence(root, name: str, pictures, masks) -> None:
    for kind in ("JPEGImages", "Annotations"):
        (root / kind / "480p" / name).mkdir(parents=True)
    for number, (picture, mask) in enumerate(zip(pictures, masks, strict=True)):
        cv2.imwrite(
            str(root / "JPEGImages/480p" / name / f"{number:05d}.jpg"), picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 100]
        )
        write_mask(root / "Annotations/480p" / name / f"{number:05d}.png", mask)


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A benchmark of two sequences: alpha of two objects, of which one leaves and a third appears, beta of one; void on both."""
    monkeypatch.setattr(probe, "VAL", {2016: SMALL, 2017: SMALL})
    pictures, masks = film(frames=7)
    alpha = masks[:6].copy()
    alpha[4:][alpha[4:] == 2] = 0
    alpha[3:, 50:60, 4:14] = 3  # not in the first frame: no object of the benchmark
    alpha[:, :2] = 255
    write_sequence(tmp_path, "alpha", pictures[:6], alpha)
    write_sequence(tmp_path, "beta", pictures, np.where(masks == 1, 1, 0).astype(np.uint8))
    (tmp_path / "ImageSets" / "2017").mkdir(parents=True)
    (tmp_path / "ImageSets" / "2017" / "val.txt").write_text("beta\nalpha\n")
    return tmp_path


def official(found, true, *, merged: bool) -> list[list[float]]:
    """The official tools, object by object, as loops: [J mean, J recall, J decay, F mean, F recall, F decay]."""
    found, true = ([np.where(mask == 255, 0, mask) for mask in masks] for masks in (found, true))
    if merged:
        found, true = ([np.minimum(mask, 1) for mask in masks] for masks in (found, true))
    rows = []
    for number in range(1, int(true[0].max()) + 1):
        values: list[list[float]] = [[], []]
        for says, is_ in list(zip(found, true, strict=True))[1:-1]:
            a, b = says == number, is_ == number
            values[0].append((a & b).sum() / (a | b).sum() if (a | b).any() else 1.0)
            values[1].append(naive_boundary(a, b))
        row = []
        for line in values:
            edges = [math.floor(1 + k * (len(line) - 1) / 4 + 0.5) - 1 for k in range(5)]
            first, last = line[edges[0] : edges[1] + 1], line[edges[3] : edges[4] + 1]
            row += [
                sum(line) / len(line),
                sum(v > 0.5 for v in line) / len(line),
                sum(first) / len(first) - sum(last) / len(last),
            ]
        rows.append(row)
    return rows


def lagging(frames, mask):
    """Says in each frame what was given, moved down by 3 pixels a frame, with an object that nobody asked for."""
    for number, _ in enumerate(frames):
        moved = np.roll(mask, 3 * number, axis=0)
        moved[60:, 90:] = 9
        yield moved


@pytest.mark.parametrize("year", [2016, 2017])
def test_figures_are_those_of_the_official_tools(root, year):
    tracker = Tracker("lagging", lagging, None)
    figures = evaluate_davis(open_davis(root, year), [tracker])
    wanted = []
    for name in SMALL:
        video = probe.davis_sequence(root, name)
        given = np.where(video.masks[0] == 255, 0, video.masks[0])
        if year == 2016:
            given = np.minimum(given, 1)
        wanted += official(list(lagging(video.masks, given)), list(video.masks), merged=year == 2016)
    assert len(wanted) == (2 if year == 2016 else 3)
    s = figures.summaries()["lagging"]
    got = [s.j_mean, s.j_recall, s.j_decay, s.f_mean, s.f_recall, s.f_decay]
    np.testing.assert_allclose(got, np.mean(wanted, axis=0))
    assert s.jf == pytest.approx((s.j_mean + s.f_mean) / 2)
    rows = list(csv.DictReader(io.StringIO(figures.as_csv())))
    assert [(row["sequence"], row["object"], row["frames"]) for row in rows][:1] == [("alpha", "1", "4")]
    columns = ("J mean", "J recall", "J decay", "F mean", "F recall", "F decay")
    np.testing.assert_allclose([[float(row[key]) for key in columns] for row in rows], wanted, atol=1e-6)
    content = figures.as_json()
    assert content["data"] == f"DAVIS-{year} val" and content["benchmark"] is True
    assert content["trackers"]["lagging"]["J"]["recall"] == pytest.approx(s.j_recall)


def test_an_encoder_that_sees_beats_the_mask_that_stays(root, tmp_path):
    sight = Sight(Patches().eval(), None, None)
    trackers = [*BASELINES, by_features("patches", sight, Propagation(radius=4, context=5))]
    seen = []
    figures = evaluate_davis(open_davis(root, 2016), trackers, masks_out=tmp_path / "kept", on_frame=lambda: seen.append(1))
    s = figures.summaries()
    assert list(s) == ["identity", "optical flow (DIS)", "patches"]
    assert s["patches"].jf > s["identity"].jf + 0.2
    assert len(seen) == 3 * 13
    kept = sorted((tmp_path / "kept" / "patches" / "beta").iterdir())
    assert len(kept) == 7
    with Image.open(kept[3]) as file:
        assert file.mode == "P"


def test_the_lists_are_those_of_the_benchmarks():
    assert (len(VAL[2016]), sum(VAL[2016].values())) == (20, 1376)
    assert (len(VAL[2017]), sum(VAL[2017].values())) == (30, 1999)


def test_what_is_not_the_benchmark_never_bears_its_name(root):
    assert open_davis(root, 2017).name == "DAVIS-2017 val"
    (root / "JPEGImages/480p/beta/00006.jpg").unlink()
    with pytest.raises(InputError, match="beta has 6 frames instead of 7; add --allow-missing"):
        open_davis(root, 2017)
    for path in (root / "JPEGImages/480p/beta").iterdir():
        path.unlink()
    with pytest.raises(InputError, match=r"1 of the 2 sequences are missing \(beta\)"):
        open_davis(root, 2017)
    found = open_davis(root, 2017, allow_missing=True)
    assert found.name == "1 of the 2 sequences of DAVIS-2017 val, not the benchmark"
    content = evaluate_davis(found, [BASELINES[0]]).as_json()
    assert content["benchmark"] is False and "beta" in content["problems"][0]
    (root / "ImageSets/2017/val.txt").write_text("alpha\ngamma\n")
    with pytest.raises(InputError, match=r"differs from the benchmark's list in 2 names \(beta, gamma\)"):
        open_davis(root, 2017)
    with pytest.raises(InputError, match="holds no sequence of DAVIS-2016 val"):
        open_davis(root / "nowhere", 2016, allow_missing=True)


def test_masks_of_the_other_year_are_told(root):
    for path in (root / "Annotations/480p/alpha").iterdir():
        with Image.open(path) as file:
            mask = np.asarray(file)
        Image.fromarray(((mask > 0) & (mask < 255)).astype(np.uint8) * 255).save(path)
    with pytest.raises(InputError, match="they are those of DAVIS-2016; say --year 2016"):
        evaluate_davis(open_davis(root, 2017), [BASELINES[0]])
    assert evaluate_davis(open_davis(root, 2016), [BASELINES[0]]).summaries()["identity"].objects == 2


def test_a_mask_that_lacks_is_told(root):
    (root / "Annotations/480p/beta/00003.png").unlink()
    with pytest.raises(MediaError, match="beta has 7 pictures and 6 masks"):
        evaluate_davis(open_davis(root, 2017), [BASELINES[0]])


def test_real_sequences_have_the_frames_of_the_benchmark(media):
    with pytest.raises(InputError, match="16 of the 20 sequences are missing"):
        open_davis(media / "tracking", 2016)
    found = open_davis(media / "tracking", 2016, allow_missing=True)
    assert found.sequences == ("blackswan", "camel", "car-shadow", "dance-twirl")
    assert len(found.problems) == 1 and found.frames == 270
