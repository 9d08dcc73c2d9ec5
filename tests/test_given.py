"""What users give to be followed, and the films they give it for: what fits is taken, what does not is told in one sentence."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
from PIL import Image

from mmssl.downstream.footage import open_footage
from mmssl.downstream.given import Keypoints, Objects, read_given, read_mask
from mmssl.downstream.palette import write_mask
from mmssl.types import InputError, MediaError
from tests.fake_world import squares, tone, write_film

SIZE = (48, 64)


def two() -> np.ndarray:
    mask = np.zeros(SIZE, np.uint8)
    mask[4:10, 4:10], mask[20:30, 30:50] = 1, 5
    return mask


def test_masks_are_read_from_palette_grey_and_black_and_white(tmp_path):
    path = tmp_path / "mask.png"
    mask = two()
    mask[0] = 255
    write_mask(path, mask)
    np.testing.assert_array_equal(read_mask(path, SIZE), two(), err_msg="void of a palette is background")
    for mode in ("L", "RGB", "RGBA"):
        Image.fromarray(two()).convert(mode).save(path)
        np.testing.assert_array_equal(read_mask(path, SIZE), two())
    for white in (7, 128, 255):
        Image.fromarray((two() > 0).astype(np.uint8) * np.uint8(white)).save(path)
        np.testing.assert_array_equal(read_mask(path, SIZE), two() > 0, err_msg="one level alone is one object")
    Image.fromarray(two() > 0).save(path)
    np.testing.assert_array_equal(read_mask(path, SIZE), two() > 0)
    given = read_given(SIZE, mask=path)
    assert isinstance(given, Objects) and given.numbers == (1,)


def photo(path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 255, SIZE).astype(np.uint8)).save(path)


def colours(path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (*SIZE, 3)).astype(np.uint8)).save(path)


def mixed(path) -> None:
    mask = two()
    mask[40:] = 255
    Image.fromarray(mask).save(path)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: None, "there is no mask"),
        (lambda path: path.write_text("not a picture"), "is no picture that can be read"),
        (lambda path: path.write_bytes(b""), "is no picture that can be read"),
        (lambda path: Image.fromarray(two().T.copy()).save(path), "is 48 x 64 pixels, the frames are 64 x 48; draw the mask"),
        (lambda path: Image.fromarray(two() * 0).save(path), "is empty.*from 1 on"),
        (photo, "different values, 64 objects is the most"),
        (colours, "in colours"),
        (mixed, "the value 255 beside others"),
        (lambda path: Image.fromarray(two().astype(np.uint16) * 1000).save(path), "the value 5000 beside others"),
    ],
)
def test_masks_that_are_none_are_told(tmp_path, make, words):
    make(tmp_path / "mask.png")
    with pytest.raises(InputError, match=words):
        read_mask(tmp_path / "mask.png", SIZE)


def test_a_mask_that_is_cut_off_is_told(tmp_path):
    write_mask(tmp_path / "mask.png", np.random.default_rng(0).integers(0, 3, SIZE).astype(np.uint8))
    whole = (tmp_path / "mask.png").read_bytes()
    (tmp_path / "mask.png").write_bytes(whole[: len(whole) - 200])
    with pytest.raises(InputError, match="is no picture that can be read"):
        read_mask(tmp_path / "mask.png", SIZE)


def test_boxes_are_filled_in_their_order():
    given = read_given(SIZE, boxes=["10,5,20,10", "20, 8, 4.4, 4"])
    assert isinstance(given, Objects) and given.kind == "box" and given.numbers == (1, 2)
    assert (given.mask == 2).sum() == 16 and (given.mask == 1).sum() == 200 - 16
    assert given.mask[5, 10] == 1 and given.mask[14, 29] == 1 and given.mask[8, 20] == 2 and given.mask[15, 29] == 0


@pytest.mark.parametrize(
    ("boxes", "words"),
    [
        (["1,2,3"], "give four numbers of pixels"),
        (["a,b,c,d"], "give four numbers of pixels"),
        (["1,2,nan,4"], "finite"),
        (["50,10,20,5"], "does not lie in the frame, which is 64 x 48"),
        (["-1,0,5,5"], "does not lie in the frame"),
        (["5,5,0,5"], "does not lie in the frame"),
        (["5,5,4,4", "4,4,10,10"], "--box 5,5,4,4 lies wholly under later boxes"),
        (["1,1,2,2"] * 65, "64 is the most"),
    ],
)
def test_boxes_that_do_not_fit_are_told(boxes, words):
    with pytest.raises(InputError, match=words):
        read_given(SIZE, boxes=boxes)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "is no JSON"),
        ("[[1, 2]]", "holds no keypoints"),
        ("{}", "holds no keypoints"),
        ('{"nose": [1]}', r"nose is \[1\]; give"),
        ('{"nose": ["1", 2]}', "nose is"),
        ('{"nose": [true, 2]}', "nose is"),
        ('{"nose": [64, 2]}', "lies outside of the frame, which is 64 x 48"),
        ('{"nose": [NaN, 2]}', "lies outside of the frame"),
        (json.dumps({str(k): [1, 1] for k in range(65)}), "64 is the most"),
    ],
)
def test_keypoints_that_do_not_fit_are_told(tmp_path, content, words):
    (tmp_path / "points.json").write_text(content)
    with pytest.raises(InputError, match=words):
        read_given(SIZE, points=tmp_path / "points.json")


def test_exactly_one_thing_is_given(tmp_path):
    (tmp_path / "points.json").write_text('{"nose": [3.5, 4], "tail": [60, 47]}')
    given = read_given(SIZE, points=tmp_path / "points.json")
    assert isinstance(given, Keypoints) and given.names == ("nose", "tail")
    np.testing.assert_array_equal(given.points, [[3.5, 4], [60, 47]])
    with pytest.raises(InputError, match="nothing says what to follow; give one of --mask"):
        read_given(SIZE)
    with pytest.raises(InputError, match="--box and --points are given"):
        read_given(SIZE, boxes=["1,1,5,5"], points=tmp_path / "points.json")
    with pytest.raises(InputError, match="there is no file"):
        read_given(SIZE, points=tmp_path / "none.json")


# Footage -----------------------------------------------------------------------------------------------------------------


def test_a_folder_is_played_in_the_order_of_its_numbers(tmp_path):
    for number in (1, 2, 10):
        cv2.imwrite(str(tmp_path / f"frame{number}.png"), np.full((*SIZE, 3), 20 * number, np.uint8))
    (tmp_path / "notes.txt").write_text("no picture")
    footage = open_footage(tmp_path, fps=5)
    assert footage.size == SIZE and footage.count(0.0, None) == 3 and not footage.sound
    assert [(moment, int(picture[0, 0, 0])) for moment, picture in footage.play()] == [(0.0, 20), (0.2, 40), (0.4, 200)]
    assert [moment for moment, _ in footage.play(0.2, 0.4)] == [0.2]
    cv2.imwrite(str(tmp_path / "frame2.png"), np.zeros((20, 64, 3), np.uint8))
    with pytest.raises(MediaError, match=r"frame2.png is 64 x 20, the first picture is 64 x 48"):
        list(footage.play())
    (tmp_path / "frame2.png").write_text("damaged")
    with pytest.raises(MediaError, match="is no picture that can be read"):
        list(footage.play())


def test_a_film_is_played_at_its_own_rate(tmp_path):
    path = write_film(tmp_path / "film.mp4", lambda t: squares((20, 20), None, size=SIZE), tone(400, 2.0))
    footage = open_footage(path)
    assert (footage.size, footage.fps, footage.sound) == (SIZE, 10.0, True)
    assert footage.count(0.5, 1.5) == 10
    assert [round(moment, 3) for moment, _ in footage.play(0.5, 0.8)] == [0.5, 0.6, 0.7]
    assert open_footage(path, fps=4).fps == 4


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: None, "there is no file or folder"),
        (lambda path: path.mkdir(), "holds no pictures"),
        (lambda path: path.write_bytes(b""), "cannot be read as a film"),
        (lambda path: path.write_text("a text file called .mp4"), "cannot be read as a film"),
        (lambda path: write_film(path, None, tone(400, 1.0)), "has no picture"),
    ],
)
def test_what_is_no_film_is_told(tmp_path, make, words):
    make(tmp_path / "film.mp4")
    with pytest.raises(InputError, match=words):
        open_footage(tmp_path / "film.mp4")


@pytest.mark.parametrize("fps", [0.0, -1.0, 2000.0, float("nan")])
def test_a_rate_that_is_none_is_told(tmp_path, fps):
    with pytest.raises(InputError, match="--fps is"):
        open_footage(tmp_path, fps=fps)
