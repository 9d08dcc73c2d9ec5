"""What `localize` writes beside its film, and each of its options, on planted links whose answers are exact."""

import json
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from mmssl.downstream.calibration import Calibration
from mmssl.downstream.localize import Options, localize
from mmssl.downstream.mapfile import MapFile, write_npz
from mmssl.downstream.pairing import pair
from mmssl.downstream.regions import Reader
from mmssl.downstream.smoothing import smooth_values
from mmssl.downstream.sources import check_cells, separate_maxima
from mmssl.downstream.stereo import WEIGHT, listen_stereo
from mmssl.encoders.audio_cnn import AudioCNN
from mmssl.encoders.video_resnet import VideoResNet
from mmssl.objectives.av_nce import AudioVisualNCE
from mmssl.objectives.avenet import AVENet
from mmssl.objectives.avts import Synchronisation
from mmssl.rng import rng_for
from mmssl.types import InputError
from tests.fake_world import HIGH, LOW, ColourEncoder, fake_pairing, squares, tone, write_film

RED, GREEN = (24, 20), (72, 44)  # centres of squares of 16 pixels in a film of 96 x 64
SCALE = Calibration(threshold=0.8, spread=0.05, low=0.5, high=1.0)
# Low (red) for 1 s, high (green) for 1 s, silence for 0.6 s, then a noise that nothing here makes.
SOUND = np.concatenate([tone(LOW, 1.0), tone(HIGH, 1.0), np.zeros(9600, np.float32), tone(3000, 1.4)])


def written(found):
    return json.loads(found.findings.read_text())


def at(windows, moment):
    return min(windows, key=lambda window: abs(window["time"] - moment))


def inside(point, centre, side=16):
    return abs(point["x"] - centre[0]) <= side / 2 and abs(point["y"] - centre[1]) <= side / 2


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    return write_film(
        tmp_path_factory.mktemp("options") / "film.mp4", lambda t: squares(RED, GREEN, size=(64, 96)), SOUND, seconds=4.0
    )


def found_in(film, folder, options=None, **more):
    options = options or Options(steady=0)
    return localize(film, folder / "out.json", fake_pairing(), calibration=SCALE, options=options, progress=False, **more)


# the findings ------------------------------------------------------------------------------------------------------------


def test_findings_tell_times_boxes_and_maxima_in_pixels_of_the_film(film, tmp_path):
    found = found_in(film, tmp_path, model="run av_nce step 3")
    assert (found.film, found.maps) == (None, None)
    assert [path.name for path in tmp_path.iterdir()] == ["out.json"]
    told = written(found)
    assert (told["width"], told["height"], told["model"]) == (96, 64, "run av_nce step 3")
    assert told["box_threshold"] == pytest.approx(0.75)
    assert [window["time"] for window in told["windows"]] == pytest.approx(np.arange(40) / 10)
    low, high, none, odd = (at(told["windows"], moment) for moment in (0.5, 1.5, 2.3, 3.3))
    assert [window["state"] for window in (low, high, none, odd)] == ["seen", "seen", "silent", "unseen"]
    assert [window["sounding"] for window in (low, high, none, odd)] == [True, True, False, False]
    assert inside(low["maximum"], RED)
    assert inside(high["maximum"], GREEN)
    assert (low["start"], low["end"]) == pytest.approx((0.3, 0.7))
    assert told["windows"][0]["start"] == 0.0  # at the ends the window moves inward
    assert told["windows"][-1]["end"] == pytest.approx(4.0, abs=0.11)
    for window, (x, y) in ((low, RED), (high, GREEN)):
        (box,) = window["boxes"]
        # Cells of 8 pixels, bilinear between their centres: a square of 16 is told to a cell.
        sides = (box["left"], box["top"], box["left"] + box["width"], box["top"] + box["height"])
        assert sides == pytest.approx((x - 8, y - 8, x + 8, y + 8), abs=8)
        assert box["cosine"] >= told["box_threshold"]
    assert none["boxes"] == odd["boxes"] == []


def test_boxes_and_maxima_are_scaled_from_the_encoders_input(tmp_path):
    reader = Reader(ColourEncoder(), (8, 12), seen=(64, 96), film=(640, 960))
    values = np.zeros((8, 12), np.float32)
    values[2, 3], values[6, 10], values[6, 9] = 0.7, 0.9, 0.9
    point = reader.maximum(values)
    assert (point.x, point.y) == pytest.approx((9 * 80 + 39.5, 6 * 80 + 39.5))
    first, second = reader.regions(values, 0.5)
    assert (first.cosine, second.cosine) == pytest.approx((0.9, 0.7), abs=0.02)
    for x in (39.5 + 9 * 80, 39.5 + 10 * 80):
        assert first.left < x < first.left + first.width
    assert second.left < 39.5 + 3 * 80 < second.left + second.width < first.left
    assert reader.regions(values, 1.0) == []


# smoothing ---------------------------------------------------------------------------------------------------------------


def test_smoothing_averages_maps_and_scores_and_says_so(film, tmp_path):
    plain, smooth = (
        localize(
            film,
            tmp_path / f"{seconds}.mp4",
            fake_pairing(),
            calibration=SCALE,
            options=Options(smooth=seconds, steady=0),
            progress=False,
        )
        for seconds in (0.0, 0.4)
    )
    raw, averaged, times = np.load(plain.maps)["maps"].astype(float), np.load(smooth.maps)["maps"], plain.times
    for k, moment in enumerate(times):
        near = [j for j, other in enumerate(times) if abs(other - moment) <= 0.2 + 1e-6]
        assert averaged[k] == pytest.approx(np.mean([raw[j] for j in near], axis=0), abs=2e-3)
        assert smooth.scores[k] == pytest.approx(np.mean([plain.scores[j] for j in near]))
    assert plain.notes == ""
    assert "Smoothed over 0.4 s." in smooth.sentence()
    assert written(smooth)["smooth_seconds"] == 0.4
    assert str(np.load(smooth.maps)["notes"]) == "smoothed over 0.4 s"

    def height(path):
        with av.open(str(path)) as container:
            return container.streams.video[0].height

    assert height(smooth.film) > height(plain.film)  # a line more, that tells of it


def test_steady_claims_leave_the_maps_alone(film, tmp_path):
    plain, steady = found_in(film, tmp_path), found_in(film, tmp_path / "steady", Options(steady=0.4))
    assert steady.scores == pytest.approx(smooth_values(plain.times, plain.scores, 0.4))
    first, second = ([w["maximum"] for w in written(found)["windows"]] for found in (plain, steady))
    assert first == second
    assert written(steady)["steady_seconds"] == 0.4
    assert Options().steady == 0.5


def test_smoothing_of_values_has_a_naive_twin():
    rng = rng_for(0, "smooth")
    times, values = np.sort(rng.random(40)) * 5, rng.random((40, 3))
    naive = [values[np.abs(times - moment) <= 0.35].mean(axis=0) for moment in times]
    assert smooth_values(times, values, 0.7) == pytest.approx(np.array(naive))
    assert np.array_equal(smooth_values(times, values, 0.0), values)


# stereo ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("gains", "side"), [((1.0, 0.1), "left"), ((0.1, 1.0), "right")])
def test_stereo_tells_two_alike_apart_only_where_it_is_asked_for(tmp_path, gains, side):
    picture = squares(RED, None, size=(64, 96))
    picture[12:28, 64:80] = picture[20, 24]  # a second red square, at the right
    sound = np.stack([gain * tone(LOW, 1.0) for gain in gains])
    film = write_film(tmp_path / "two.mp4", lambda t: picture, sound, seconds=1.0)
    plain, used = written(found_in(film, tmp_path)), written(found_in(film, tmp_path, Options(stereo=True)))
    where = [at(told["windows"], 0.5)["maximum"]["x"] for told in (plain, used)]
    assert (where[1] < 48) == (side == "left")
    assert (plain["stereo"], used["stereo"]) == ("ignored", "prior")
    assert used["notes"] == "a hand-made stereo prior was used"
    assert plain["windows"][5]["score"] == used["windows"][5]["score"]


def test_the_pan_is_read_from_the_levels_and_one_channel_gives_none(tmp_path, film):
    angle = (0.5 + 1) * np.pi / 4  # constant power, half way to the right; then hard left
    right = np.stack([np.cos(angle) * tone(LOW, 1.0, rate=48000), np.sin(angle) * tone(LOW, 1.0, rate=48000)])
    left = np.stack([tone(LOW, 1.0, rate=48000), 0 * tone(LOW, 1.0, rate=48000)])
    path = write_film(tmp_path / "pan.mp4", None, np.concatenate([right, left], axis=1).astype(np.float32), rate=48000)
    heard = listen_stereo(path)
    assert heard is not None
    assert heard.pan(0.1, 0.9) == pytest.approx(0.5, abs=0.03)
    assert heard.pan(1.1, 1.9) == pytest.approx(-1, abs=0.05)
    lost = heard.penalty(0.1, 0.9, np.array([-1.0, 0.5]))
    assert lost == pytest.approx([-WEIGHT * (1 - np.exp(-(1.5**2) / 0.5)), 0], abs=0.005)
    assert listen_stereo(film) is None
    same = write_film(tmp_path / "same.mp4", None, np.stack([tone(LOW, 1.0)] * 2))
    assert listen_stereo(same) is None
    told = written(found_in(film, tmp_path, Options(stereo=True)))
    assert told["stereo"] == "none"
    assert "no stereo to use" in told["notes"]


# several sources ---------------------------------------------------------------------------------------------------------


def check_two(told, first, second):
    """Each source's maximum stays on its own square, whatever sounds; the one that is heard follows the sound."""
    for window in told["windows"]:
        red, green = window["sources"][first], window["sources"][second]
        assert inside(red["maximum"], RED)
        assert inside(green["maximum"], GREEN)
    low, high, odd = (at(told["windows"], moment)["sources"] for moment in (0.5, 1.5, 3.3))
    assert [low[first]["heard"], low[second]["heard"]] == [True, False]
    assert [high[first]["heard"], high[second]["heard"]] == [False, True]
    assert not any(source["heard"] for source in odd)
    assert all(len(source["boxes"]) == 1 for source in low)
    assert all(source["boxes"] == [] for source in odd)


def test_sources_are_found_by_clustering(film, tmp_path):
    found = localize(
        film, tmp_path / "two.mp4", fake_pairing(), calibration=SCALE, options=Options(sources=2, smooth=0.1), progress=False
    )
    told = written(found)
    assert [source["kind"] for source in told["sources"]] == ["clusters"] * 2
    red = int(np.argmax([inside(source["maximum"], RED) for source in told["windows"][5]["sources"]]))
    check_two(told, red, 1 - red)
    assert 0 <= told["sources"][red]["clearest"] <= 1.0 <= told["sources"][1 - red]["clearest"] <= 2.1
    npz = np.load(found.maps)
    assert npz["source_maps"].shape == (40, 2, 8, 12)
    assert npz["source_names"].tolist() == ["source 1", "source 2"]
    assert "source 1 in" in found.sentence()
    with av.open(str(found.film)) as container:  # 6 times as large as the film: both squares are tinted by their source's colour
        picture = next(f for f in container.decode(video=0) if float(f.pts * f.time_base) > 0.45).to_ndarray(format="rgb24")
    plain = squares(RED, GREEN, size=(64, 96))
    tints = [picture[y * 7, x * 7].astype(int) - plain[y, x] for x, y in (RED, GREEN)]
    assert all(np.abs(tint).max() > 20 for tint in tints)
    assert np.abs(picture[56 * 7, 12 * 7].astype(int) - plain[56, 12]).max() < 40


def test_one_thing_that_sounds_is_one_source_and_that_is_said(tmp_path):
    film = write_film(tmp_path / "one.mp4", lambda t: squares((24, 20), None), tone(LOW, 1.0), seconds=1.0)
    found = found_in(film, tmp_path, Options(sources=3))
    assert 1 <= len(found.sources) <= 3
    quiet = write_film(tmp_path / "odd.mp4", lambda t: squares((24, 20), None), tone(3000, 1.0), seconds=1.0)
    found = found_in(quiet, tmp_path, Options(sources=3))
    assert found.sources == ()
    assert "3 sources asked for, none found" in found.sentence()
    assert "sources" not in written(found)["windows"][0]


def test_classes_are_named_by_example_sounds(film, tmp_path):
    folder = tmp_path / "sounds"
    (folder / "red bell").mkdir(parents=True)
    for k in range(2):
        write_film(folder / "red bell" / f"{k}.wav", None, tone(LOW, 1.0, loud=0.1 + 0.2 * k), audio_codec="pcm_s16le")
    write_film(folder / "green.wav", None, tone(HIGH, 0.3), audio_codec="pcm_s16le")  # shorter than the window
    told = written(found_in(film, tmp_path, Options(classes=folder)))
    assert [source["name"] for source in told["sources"]] == ["green", "red bell"]
    check_two(told, 1, 0)


def test_examples_that_cannot_serve_are_told_by_name(film, tmp_path):
    folder = tmp_path / "sounds"
    with pytest.raises(InputError, match="there is no folder"):
        found_in(film, tmp_path, Options(classes=folder))
    folder.mkdir()
    with pytest.raises(InputError, match="0 classes"):
        found_in(film, tmp_path, Options(classes=folder))
    (folder / "text.wav").write_text("no sound at all")
    with pytest.raises(InputError, match=r"text\.wav serves as no example"):
        found_in(film, tmp_path, Options(classes=folder))
    (folder / "text.wav").unlink()
    write_film(folder / "quiet.wav", None, np.zeros(16000, np.float32), audio_codec="pcm_s16le")
    with pytest.raises(InputError, match=r"quiet\.wav serves as no example of a sound: it is silent"):
        found_in(film, tmp_path, Options(classes=folder))
    assert not (tmp_path / "out.json").exists()
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (Options(sources=1), "--sources is 1"),
        (Options(sources=9), "--sources is 9"),
        (Options(smooth=-1), "--smooth is -1"),
        (Options(smooth=float("nan")), "--smooth is nan"),
        (Options(steady=61), "--steady is 61"),
        (Options(sources=2, classes=Path("sounds")), "give one of the two"),
        (Options(fps=float("nan")), "--fps is nan"),
    ],
)
def test_options_that_cannot_be(film, tmp_path, options, why):
    with pytest.raises(InputError, match=why):
        found_in(film, tmp_path, options)


def test_sources_need_single_cells(film, tmp_path, monkeypatch):
    pairing = fake_pairing()
    monkeypatch.setattr(type(pairing.objective), "similarity_map", lambda self, video, audio: video.grid.mean(-1) - 1)
    with pytest.raises(InputError, match="compares courses over time"):
        localize(film, tmp_path / "o.json", pairing, calibration=SCALE, options=Options(sources=2), progress=False)


@pytest.mark.parametrize(
    ("build", "able"),
    [
        (lambda encoders: AudioVisualNCE(encoders=encoders, hidden=8), True),
        (lambda encoders: AVENet(encoders=encoders), True),
        (lambda encoders: AVENet(encoders=encoders, form="avol"), True),
        (lambda encoders: Synchronisation(encoders=encoders, bins=4, centre=True), False),
    ],
)
def test_which_objectives_compare_single_cells(build, able):
    torch.manual_seed(0)
    encoders = {"video": VideoResNet(size="tiny", pixels=64, frames=8), "audio": AudioCNN(size="tiny")}
    pairing = pair("one", build(encoders), encoders)
    if able:
        check_cells(pairing)
    else:
        with pytest.raises(InputError, match="compares courses over time"):
            check_cells(pairing)


def test_separate_maxima_have_a_naive_twin():
    for seed in range(20):
        values = rng_for(seed, "maxima").random((9, 7))
        order = sorted(np.ndindex(9, 7), key=lambda cell: -values[cell])
        naive: list[tuple[int, ...]] = []
        for y, x in order:
            if len(naive) < 4 and all((y - a) ** 2 + (x - b) ** 2 >= 2.5**2 for a, b in naive):
                naive.append((y, x))
        assert separate_maxima(values, 4, apart=2.5) == naive


def test_files_of_maps_give_back_what_went_in(tmp_path):
    rows = rng_for(0, "rows").random((700, 2, 3)).astype(np.float16)
    with MapFile(tmp_path / "maps") as maps:
        maps.append(rows[:5])
        maps.append(rows[5:])
        with pytest.raises(ValueError, match="rows of"):
            maps.append(np.zeros((1, 3, 2)))
    assert np.array_equal(maps.rows(3, 9), rows[3:9])
    with pytest.raises(IndexError):
        maps.rows(699, 701)
    write_npz(tmp_path / "out.npz", {"maps": maps}, {"times": np.arange(700.0), "name": "x"})
    maps.close()
    with np.load(tmp_path / "out.npz", allow_pickle=False) as npz:
        assert np.array_equal(npz["maps"], rows)
        assert np.array_equal(npz["times"], np.arange(700.0))
        assert str(npz["name"]) == "x"
