"""`mmssl track`: the folder that it writes, on films where it is known where everything goes."""

from __future__ import annotations

import json
import weakref
from dataclasses import replace

import av
import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from mmssl.downstream.follow import Sight, follow, sight_of, track_points
from mmssl.downstream.footage import open_footage
from mmssl.downstream.given import Keypoints, Objects, read_given
from mmssl.downstream.metrics.segmentation import region_similarity
from mmssl.downstream.propagate import Propagation
from mmssl.downstream.track_film import confidences, measure, track_film
from mmssl.types import InputError, MediaError
from tests.fake_world import tone, write_film
from tests.moving_squares import Patches, film

NEAR = Propagation(radius=4, context=5)
SIGHT = Sight(Patches().eval(), None, None)


def frames_in(folder, count: int = 8):
    pictures, masks = film(frames=count)
    folder.mkdir()
    for number, picture in enumerate(pictures):
        cv2.imwrite(str(folder / f"{number:05d}.png"), picture[..., ::-1])
    return folder, masks


def levels(path) -> np.ndarray:
    with Image.open(path) as file:
        return np.asarray(file)


@pytest.fixture(scope="module")
def tracked(tmp_path_factory):
    base = tmp_path_factory.mktemp("track")
    folder, masks = frames_in(base / "frames")
    calls = []
    found = track_film(
        open_footage(folder),
        Objects(masks[0], "mask"),
        SIGHT,
        base / "out",
        settings=NEAR,
        about={"run": "x"},
        on_frame=lambda: calls.append(1),
    )
    assert len(calls) == 8
    return found, masks, json.loads((base / "out" / "track.json").read_text())


def test_masks_are_written_as_davis_keeps_them(tracked):
    found, masks, _ = tracked
    files = sorted((found.out / "masks").iterdir())
    assert [path.name for path in files] == [f"{number:05d}.png" for number in range(8)]
    for number, path in enumerate(files):
        with Image.open(path) as file:
            assert file.mode == "P" and file.getpalette()[:6] == [0, 0, 0, 128, 0, 0]
            mask = np.asarray(file)
        if number == 0:
            np.testing.assert_array_equal(mask, masks[0])
        for k in (1, 2):
            assert region_similarity(mask == k, masks[number] == k) > 0.85
    assert sorted(path.name for path in found.out.iterdir()) == ["masks", "overlay.mp4", "track.json"]


def test_the_figures_of_each_frame_say_what_its_mask_shows(tracked):
    found, _, content = tracked
    assert content["followed"] == "mask" and content["run"] == "x" and content["size"] == {"height": 64, "width": 96}
    assert content["propagation"]["context"] == 5 and content["propagation"]["seen"] == {"height": 64, "width": 96}
    assert [entry["time"] for entry in content["frames"]] == [round(k / 24, 6) for k in range(8)]
    for entry in content["frames"]:
        mask = levels(found.out / entry["mask"])
        assert [figure["id"] for figure in entry["objects"]] == [1, 2]
        for figure in entry["objects"]:
            y, x = np.nonzero(mask == figure["id"])
            assert figure["area"] == len(y)
            assert figure["centroid"] == pytest.approx([x.mean(), y.mean()], abs=0.01)
            assert 0.5 < figure["confidence"] <= 1
    first = content["frames"][0]["objects"][0]
    assert first["box"] == [8, 8, 20, 20] and first["confidence"] == 1
    assert content["frames"][7]["objects"][0]["box"] == pytest.approx([36, 8, 20, 20], abs=4)
    assert found.sentence() == "Followed through 8 frames, 0.00 to 0.29 s."


def test_the_overlay_shows_the_objects_in_their_colours(tracked):
    found, masks, _ = tracked
    with av.open(str(found.out / "overlay.mp4")) as container:
        frames = list(container.decode(video=0))
    assert len(frames) == 8 and (frames[0].height, frames[0].width) == (64, 96)
    shown = frames[7].to_ndarray(format="rgb24").astype(int)
    red, blue = shown[masks[7] == 2].mean(axis=0), shown[masks[7] == 1].mean(axis=0)
    assert red[0] - red[2] > blue[0] - blue[2] + 40, "tab10: the first object is blue, the second orange"


def test_boxes_are_measured_by_the_pieces_that_matter():
    mask = np.zeros((40, 60), bool)
    mask[5:15, 10:20] = mask[5:15, 22:30] = True  # two pieces, behind a pole
    mask[35, 55:58] = True  # a crumb
    found = measure(mask)
    assert found["area"] == 183 and found["box"] == [10, 5, 20, 10]
    y, x = np.nonzero(mask)
    assert found["centroid"] == pytest.approx([x.mean(), y.mean()], abs=0.01)
    assert measure(mask & False) == {"area": 0, "box": None, "centroid": None}


def test_confidence_is_the_share_where_an_object_wins():
    labels = torch.tensor([[0.9, 0.1, 0.3, 1.0], [0.1, 0.6, 0.4, 0.0], [0.0, 0.3, 0.3, 0.0]]).view(3, 2, 2)
    assert confidences(labels) == [0.5, 0.3]


def test_keypoints_are_followed_and_lost_ones_are_null(tmp_path):
    folder, _ = frames_in(tmp_path / "frames")
    given = Keypoints(("right", "down"), np.array([[18.0, 18.0], [82.0, 18.0]]))
    found = track_film(open_footage(folder), given, SIGHT, tmp_path / "out", settings=NEAR)
    content = json.loads((found.out / "track.json").read_text())
    assert sorted(path.name for path in found.out.iterdir()) == ["overlay.mp4", "track.json"]
    for number, entry in enumerate(content["frames"]):
        points = entry["keypoints"]
        assert [points["right"]["x"], points["right"]["y"]] == pytest.approx([18 + 4 * number, 18], abs=2)
        assert [points["down"]["x"], points["down"]["y"]] == pytest.approx([82, 18 + 4 * number], abs=2)
        assert 0.3 < points["right"]["confidence"] <= 1
    assert content["frames"][0]["keypoints"]["down"] == {"x": 82.0, "y": 18.0, "confidence": 1.0}


def test_a_point_given_nowhere_stays_nowhere():
    pictures, _ = film(frames=3)
    points = np.array([[18.0, 18.0], [np.nan, np.nan]])
    for found, sure in track_points(iter(pictures), points, SIGHT.encoder, settings=NEAR):
        assert not np.isnan(found[0]).any() and np.isnan(found[1]).all()
        assert sure[0] > 0.3 and sure[1] == 0


def test_what_is_lost_is_said_from_when_on(tmp_path):
    """The second square is painted over by the wall after frame 2: nothing looks like it any more."""
    pictures, masks = film(frames=6, noise=0.0)
    folder = tmp_path / "frames"
    folder.mkdir()
    for number, picture in enumerate(pictures):
        if number > 2:
            picture[:, 68:] = np.tile(picture[:, 64:68], (1, 7, 1))
        cv2.imwrite(str(folder / f"{number}.png"), picture[..., ::-1])
    settings = replace(NEAR, top_k=1, temperature=0.01)
    found = track_film(open_footage(folder, fps=10), Objects(masks[0], "box"), SIGHT, tmp_path / "out", settings=settings)
    assert list(found.lost) == ["object 2"] and found.lost["object 2"] == pytest.approx(0.3)
    assert found.sentence().endswith("object 2 is lost from 0.30 s on.")
    last = json.loads((found.out / "track.json").read_text())["frames"][-1]
    assert last["objects"][1]["box"] is None and last["objects"][0]["box"] is not None


def test_a_part_of_a_film_keeps_its_clock_and_its_sound(tmp_path):
    pictures, _ = film(frames=20, step=1)
    sound = np.concatenate([np.zeros(16000, np.float32), tone(800, 1.0)])  # silence, then a tone from 1.0 s on
    path = write_film(tmp_path / "film.mp4", lambda t: pictures[round(t * 10)], sound)
    footage = open_footage(path)
    given = read_given(footage.size, boxes=["13,8,20,20", "72,13,20,20"])  # as at 0.5 s
    found = track_film(footage, given, SIGHT, tmp_path / "out", settings=NEAR, start=0.5, end=1.5)
    assert (found.frames, found.first, found.last) == (10, 0.5, pytest.approx(1.4))
    content = json.loads((tmp_path / "out" / "track.json").read_text())
    assert content["followed"] == "box"
    assert content["frames"][9]["objects"][0]["box"] == pytest.approx([22, 8, 20, 20], abs=5)
    with av.open(str(tmp_path / "out" / "overlay.mp4")) as container:
        heard = np.concatenate([f.to_ndarray()[0] for f in container.decode(audio=0)])
    begins = np.flatnonzero(np.abs(heard) > 0.1)[0] / 16000
    assert begins == pytest.approx(0.5, abs=0.1) and len(heard) / 16000 == pytest.approx(1.0, abs=0.15)
    with av.open(str(tmp_path / "out" / "overlay.mp4")) as container:
        assert [float(f.pts * f.time_base) for f in container.decode(video=0)][:2] == pytest.approx([0.0, 0.1])


def test_memory_does_not_grow_with_the_film(tmp_path, monkeypatch):
    pictures, masks = film(frames=1)
    alive: list[weakref.ref] = []
    most = 0

    class Endless:
        path, size, fps, end, sound = tmp_path, (64, 96), 10.0, 0.0, False

        def play(self, start, end):
            nonlocal most
            for number in range(40):
                picture = pictures[0].copy()
                alive.append(weakref.ref(picture))
                most = max(most, sum(ref() is not None for ref in alive))
                yield number / 10, picture

    found = track_film(Endless(), Objects(masks[0], "mask"), SIGHT, tmp_path / "out", settings=replace(NEAR, context=2))
    assert found.frames == 40
    assert most <= 4


def test_nothing_half_written_is_left(tmp_path):
    folder, masks = frames_in(tmp_path / "frames")
    (folder / "00005.png").write_text("damaged")
    with pytest.raises(MediaError, match=r"00005\.png is no picture"):
        track_film(open_footage(folder), Objects(masks[0], "mask"), SIGHT, tmp_path / "out", settings=NEAR)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["frames"]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"start": 0.2, "end": 0.2}, "leave no frame"),
        ({"start": -1.0}, "leave no frame"),
        ({"start": float("nan")}, "leave no frame"),
        ({"start": 9.0}, "lasts 0.12 s; give an earlier one"),
        ({"short_side": 2}, "cannot take a picture of 3 x 2.*give another short side"),
        ({"short_side": 0}, "--short-side is 0"),
    ],
)
def test_what_leaves_nothing_to_do_is_told(tmp_path, more, words):
    folder, masks = frames_in(tmp_path / "frames", 3)
    with pytest.raises(InputError, match=words):
        track_film(open_footage(folder), Objects(masks[0], "mask"), SIGHT, tmp_path / "out", settings=NEAR, **more)
    assert not (tmp_path / "out").exists()


def test_a_folder_with_something_in_it_is_left_alone(tmp_path):
    folder, masks = frames_in(tmp_path / "frames", 3)
    with pytest.raises(InputError, match="exists already; nothing is overwritten"):
        track_film(open_footage(folder), Objects(masks[0], "mask"), SIGHT, folder)
    assert len(list(folder.iterdir())) == 3


def test_no_frames_are_no_labels():
    assert list(follow([], lambda cells: np.zeros((1, *cells.grid), np.float32), SIGHT.encoder)) == []


# What a run tracks with ------------------------------------------------------------------------------------------------------


def test_a_run_tracks_by_the_objective_that_can_or_by_its_encoder_alone():
    from mmssl.encoders.frame_resnet import FrameResNet
    from mmssl.encoders.video_resnet import VideoResNet
    from mmssl.objectives.base import objective_class
    from tests.test_colorize import PLAIN
    from tests.tiny_av import build, tiny_for

    encoders = tiny_for(objective_class("colorize"))
    objectives = {"colorize": build("colorize", encoders, **PLAIN, clusters=4)}
    sight = sight_of(encoders, objectives)
    assert sight.objective == "colorize" and sight.encoder is encoders["video"]
    frames = torch.randint(0, 256, (1, 1, 3, 16, 16), dtype=torch.uint8)
    assert sight.prepare is not None
    torch.testing.assert_close(sight.prepare(frames), objectives["colorize"].picture(frames))
    with pytest.raises(InputError, match="the run has no objective 'walk'; it has colorize"):
        sight_of(encoders, objectives, "walk")
    alone = {"video": VideoResNet(size="tiny"), "still": FrameResNet(size="tiny")}
    assert sight_of(alone, {}) == Sight(alone["still"], None, None)
    with pytest.raises(InputError, match="this run has video: video; train colorize or contrastive_random_walk"):
        sight_of({"video": alone["video"]}, {})
