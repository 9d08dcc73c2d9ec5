"""The data, the films and the page of tools/measure_tracking.py."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from PIL import Image

from mmssl.data.toyworld import load_truth
from mmssl.downstream.masks import mask_film, paint
from mmssl.downstream.tracking_data import davis_sequences, toy_sequences
from mmssl.types import InputError, MediaError

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def davis(tmp_path) -> Path:
    """Two sequences of five frames, one as DAVIS 2016 keeps masks and one as DAVIS 2017 does."""
    rng = np.random.default_rng(0)
    for name in ("one", "two"):
        (tmp_path / "JPEGImages" / "480p" / name).mkdir(parents=True)
        (tmp_path / "Annotations" / "480p" / name).mkdir(parents=True)
        back, thing = rng.integers(60, 190, (48, 64, 3)), rng.integers(0, 256, (16, 16, 3))
        for t in range(5):
            picture, mask = back.copy(), np.zeros((48, 64), np.uint8)
            picture[8:24, 8 + 4 * t : 24 + 4 * t] = thing
            mask[8:24, 8 + 4 * t : 24 + 4 * t] = 1
            mask[40:46, 40:60] = 2 if name == "two" else 0
            cv2.imwrite(
                str(tmp_path / f"JPEGImages/480p/{name}/{t:05d}.jpg"), picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 100]
            )
            file = tmp_path / f"Annotations/480p/{name}/{t:05d}.png"
            if name == "one":
                Image.fromarray(mask * 255).save(file)
            else:
                image = Image.fromarray(mask).convert("P")
                image.putdata(mask.ravel().tolist())
                image.save(file)
    return tmp_path


def test_both_kinds_of_masks_are_read(davis):
    one, two = davis_sequences(davis)
    assert (one.name, two.name) == ("one", "two")
    assert np.unique(one.masks).tolist() == [0, 1]
    assert np.unique(two.masks).tolist() == [0, 1, 2]
    assert one.masks.shape == (5, 48, 64)
    assert [p.shape for p in one.play()] == [(48, 64, 3)] * 5
    assert len(list(one.play())) == 5, "as often as asked for"


def test_what_is_missing_is_named(davis, tmp_path):
    with pytest.raises(InputError, match="should hold a folder of masks"):
        davis_sequences(tmp_path / "nowhere")
    (davis / "Annotations/480p/one/00003.png").unlink()
    with pytest.raises(MediaError, match="one has 5 pictures and 4 masks"):
        davis_sequences(davis)
    with pytest.raises(InputError, match="mmssl toyworld"):
        toy_sequences(davis, clips=2)


def test_toy_clips_come_with_the_masks_of_the_frames_shown(toy):
    videos = toy_sequences(toy, clips=3, every=5)
    assert len(videos) == 3
    for video in videos:
        truth = load_truth(toy / f"{video.name}.mp4")
        pictures = list(video.play())
        assert len(pictures) == len(video.masks) == 8
        assert set(np.unique(video.masks)) <= set(np.unique(truth.labels[0]))
        every = list(next(v for v in toy_sequences(toy, clips=3, every=1) if v.name == video.name).play())
        assert len(every) == 40
        for shown, frame in zip(pictures, every[::5], strict=True):
            assert np.array_equal(shown, frame)


def test_masks_are_filled_and_the_truth_outlined():
    picture = np.full((40, 60, 3), 100, np.uint8)
    found, true = np.zeros((2, 40, 60), np.uint8)
    found[10:20, 10:20], found[30:35, 30:35], found[:, 59] = 1, 2, 255
    true[10:20, 40:50] = 1
    shown = paint(picture, found, true)
    assert (picture == 100).all()
    assert (shown[15, 15] != 100).any() and (shown[32, 32] != shown[15, 15]).any()
    assert (shown[5, 5] == 100).all() and (shown[5, 59] == 100).all()
    assert (shown[10, 45] == 255).all() and (shown[15, 45] == 100).all()


def test_a_film_holds_every_frame(davis, tmp_path):
    video = davis_sequences(davis)[0]
    mask_film(tmp_path / "out" / "film.mp4", video, video.masks)
    with av.open(str(tmp_path / "out" / "film.mp4")) as film:
        assert sum(1 for _ in film.decode(video=0)) == 5
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["film.mp4"]


def run(*words) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "tools" / "measure_tracking.py"), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)


def test_the_tool_writes_figures_a_page_and_films_and_goes_on_where_it_was(davis, tmp_path):
    out = tmp_path / "out"
    config = ROOT / "configs" / "tiny" / "contrastive_random_walk.yaml"
    words = ["--root", davis, "--out", out, "--untrained", config, "--films", "--context", 2]
    done = run(*words)
    table = [line for line in done.stdout.splitlines() if line.startswith("|")]
    assert len(table) == 5
    assert table[2].startswith("| identity | ") and table[3].startswith("| optical flow")
    identity = [float(cell) for cell in table[2].split("|")[2:9]]
    kept = json.loads((out / "figures.json").read_text())
    assert len(kept) == 6
    # By hand: a square of 16 that has moved by 4, 8 and 12 pixels; the second sequence's other object never moves.
    moving = np.mean([12 / 20, 8 / 24, 4 / 28])
    assert identity[1] == pytest.approx((2 * moving + 1) / 3, abs=1e-3)
    assert len(list((out / "films").glob("*.mp4"))) == 6
    before = (out / "figures.json").stat().st_mtime_ns
    assert [line for line in run(*words).stdout.splitlines() if line.startswith("|")] == table
    assert (out / "figures.json").stat().st_mtime_ns == before, "nothing is measured again"


def test_real_sequences_are_read(media):
    videos = davis_sequences(media / "tracking")
    assert [video.name for video in videos] == ["blackswan", "camel", "car-shadow", "dance-twirl"]
    assert all(np.unique(video.masks).tolist() == [0, 1] for video in videos)
