from dataclasses import replace

import av
import numpy as np
import pytest

from mmssl.downstream.calibration import Calibration, fit_calibration, fit_threshold
from mmssl.downstream.localize import Options, localize
from mmssl.downstream.pairing import choose, cut_shape, pair
from mmssl.types import InputError
from tests.fake_world import (
    HIGH,
    LOW,
    ClipColourEncoder,
    ColourEncoder,
    ColourPitch,
    PitchEncoder,
    fake_pairing,
    squares,
    tone,
    write_film,
)

# The tone changes from low (red) to high (green) after 1.5 s; from 3.0 to 4.5 s silence; then a noise that nothing here makes.
SOUND = np.concatenate([tone(LOW, 1.5), tone(HIGH, 1.5), np.zeros(24000, np.float32), tone(3000, 1.5)])
SCALE = Calibration(threshold=0.8, spread=0.05, low=0.5, high=1.0)


def planted(path, *, size=(64, 96), sound=SOUND, seconds=6.0, **kwargs):
    return write_film(path, lambda t: squares((24, 20), (72, 44), size=size), sound, seconds=seconds, **kwargs)


def peak(values, npz):
    """(x, y) of a map's maximum, in pixels of the encoder's input."""
    y, x = np.unravel_index(values.argmax(), values.shape)
    return x * npz["grid_stride"] + npz["grid_offset"], y * npz["grid_stride"] + npz["grid_offset"]


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    folder = tmp_path_factory.mktemp("localize")
    film = planted(folder / "film.mp4")
    found = localize(film, folder / "heat.mp4", fake_pairing(), calibration=SCALE, progress=False)
    return found, np.load(found.maps)


def test_the_map_follows_the_sound(done):
    _, npz = done
    for moment, where in ((0.7, (24, 20)), (2.3, (72, 44))):
        index = int(np.abs(npz["times"] - moment).argmin())
        assert peak(npz["maps"][index], npz) == pytest.approx(where, abs=8)


def test_claims_are_seen_silent_and_unseen(done):
    found, npz = done
    at = {moment: str(npz["states"][int(np.abs(npz["times"] - moment).argmin())]) for moment in (0.7, 2.3, 3.75, 5.3)}
    assert at == {0.7: "seen", 2.3: "seen", 3.75: "silent", 5.3: "unseen"}
    assert 0.6 < found.share_seen < 0.75
    assert "of the film is silent" in found.sentence()


def test_what_has_no_place_is_not_claimed(tmp_path):
    """A score alone points at nothing: heat begins above all that this film's maps show, so the film would claim and show nothing."""
    film = planted(tmp_path / "film.mp4")
    cold = replace(SCALE, low=1.5, high=2.0)
    found = localize(film, tmp_path / "heat.mp4", fake_pairing(), calibration=cold, progress=False)
    assert found.share_seen == 0.0
    assert set(np.load(found.maps)["states"]) == {"silent", "unseen"}


def test_silence_shows_no_heat_and_sound_does(done, tmp_path):
    found, _ = done
    plain = squares((24, 20), (72, 44), size=(64, 96))
    with av.open(str(found.film)) as container:
        for frame in container.decode(video=0):
            moment = float(frame.pts * frame.time_base)
            picture = frame.to_ndarray(format="rgb24")[:448]
            red, grey = picture[20 * 7, 24 * 7].astype(int), picture[7 * 56, 7 * 12].astype(int)
            if 3.4 < moment < 4.1:
                assert np.abs(red - plain[20, 24]).max() < 40
            if 0.4 < moment < 1.1:
                assert np.abs(red - plain[20, 24]).max() > 60
            assert np.abs(grey - plain[56, 12]).max() < 40  # heat stays off the background throughout


def test_the_film_keeps_its_length_size_rate_and_sound(done):
    found, npz = done
    with av.open(str(found.film)) as container:
        video = container.streams.video[0]
        frames = [float(f.pts * f.time_base) for f in container.decode(video=0)]
        assert video.width == 672
        assert video.height % 2 == 0
        assert 448 < video.height < 600  # the picture, and below it the strip with its caption
    assert frames == pytest.approx(np.arange(60) / 10, abs=1e-4)
    assert len(npz["times"]) == 60
    with av.open(str(found.film)) as container:
        sound = np.concatenate([f.to_ndarray()[0] for f in container.decode(audio=0)])
    assert len(sound) / 16000 == pytest.approx(6.0, abs=0.1)
    early = np.abs(np.fft.rfft(sound[3200:19200])).argmax()
    late = np.abs(np.fft.rfft(sound[28000:44000])).argmax()
    assert (early, late) == pytest.approx((LOW, HIGH), abs=2)


def test_a_shifted_grid_is_drawn_where_it_lies(tmp_path):
    film = planted(tmp_path / "film.mp4", seconds=1.0, sound=tone(LOW, 1.0))
    found = localize(film, tmp_path / "out.mp4", fake_pairing(ColourEncoder(shifted=True)), calibration=SCALE, progress=False)
    npz = np.load(found.maps)
    assert peak(npz["maps"][5], npz) == pytest.approx((24, 20), abs=4.1)
    assert npz["grid_offset"] == 0.0


def test_a_square_encoder_gets_the_picture_squeezed(tmp_path):
    """Squeezed, not cut: in its middle 64 of 96 columns the red square would lie at 8."""
    film = planted(tmp_path / "film.mp4", seconds=1.0, sound=tone(LOW, 1.0))
    found = localize(film, tmp_path / "out.mp4", fake_pairing(ColourEncoder(square_only=True)), calibration=SCALE, progress=False)
    npz = np.load(found.maps)
    assert npz["input_size"].tolist() == [64, 64]
    assert peak(npz["maps"][5], npz) == pytest.approx((24 * 64 / 96, 20), abs=6)


def test_a_video_encoder_gets_clips_centred_on_the_moment(tmp_path):
    """The square jumps at 1.0 s; the fake sees its clip's middle picture, so maps must jump at that very moment."""
    film = write_film(
        tmp_path / "jump.mp4", lambda t: squares((16, 32) if t < 0.999 else (48, 32), None), tone(LOW, 2.0), seconds=2.0
    )
    found = localize(
        film, tmp_path / "out.mp4", fake_pairing(ClipColourEncoder(), frames=4, fps=10.0), calibration=SCALE, progress=False
    )
    npz = np.load(found.maps)
    xs = np.array([peak(values, npz)[0] for values in npz["maps"]])
    assert npz["times"] == pytest.approx(np.arange(20) / 10)
    assert (xs[npz["times"] < 0.99] < 32).all()
    assert (xs[npz["times"] > 0.99] > 32).all()


def test_fps_sets_the_maps_and_time_is_interpolated(tmp_path):
    film = planted(tmp_path / "film.mp4", seconds=2.0, sound=tone(LOW, 2.0))
    found = localize(film, tmp_path / "out.mp4", fake_pairing(), calibration=SCALE, options=Options(fps=4), progress=False)
    assert found.times == pytest.approx(np.arange(8) / 4)
    with av.open(str(found.film)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 20


def test_without_a_calibration_the_film_judges_itself(tmp_path):
    """Red and low for 3 s, then green and high: its own sound at other moments is wrong sound."""
    sound = np.concatenate([tone(LOW, 3.0), tone(HIGH, 3.0)])
    film = write_film(
        tmp_path / "turns.mp4", lambda t: squares((20, 20), None) if t < 2.99 else squares(None, (44, 44)), sound, seconds=6.0
    )
    found = localize(film, tmp_path / "out.mp4", fake_pairing(), progress=False)
    assert found.calibration.origin == "film"
    assert found.share_seen > 0.85
    assert "other moments" in found.sentence()


def test_nothing_in_view_is_said_plainly(tmp_path):
    film = planted(tmp_path / "film.mp4", seconds=1.0, sound=tone(3000, 1.0))
    found = localize(film, tmp_path / "out.mp4", fake_pairing(), calibration=SCALE, progress=False)
    assert found.sentence() == "Nothing in view seems to make the sound at any moment."
    quiet = planted(tmp_path / "quiet.mp4", seconds=1.0, sound=np.zeros(16000, np.float32))
    found = localize(quiet, tmp_path / "out.mp4", fake_pairing(), progress=False)
    assert "silent throughout" in found.sentence()


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda p: p.with_name("none.mp4"), "there is no file"),
        (lambda p: p.parent, "is a folder"),
        (lambda p: (p.write_text("hello\n" * 100), p)[1], "cannot be read as a film"),
        (lambda p: (p.write_bytes(b""), p)[1], "cannot be read as a film"),
        (lambda p: planted(p, seconds=1.0, sound=None), "has no sound"),
        (lambda p: write_film(p, None, tone(LOW, 1.0)), "has no picture"),
    ],
)
def test_what_cannot_be_localized_is_one_sentence(tmp_path, make, why):
    path = make(tmp_path / "bad.mp4")
    with pytest.raises(InputError, match=why) as error:
        localize(path, tmp_path / "out.mp4", fake_pairing(), progress=False)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.glob("*out*")) + list(tmp_path.glob(".*"))


def test_the_output_must_be_another_mp4(tmp_path):
    film = planted(tmp_path / "film.mp4", seconds=1.0, sound=tone(LOW, 1.0))
    before = film.read_bytes()
    with pytest.raises(InputError, match="the film itself"):
        localize(film, film, fake_pairing(), progress=False)
    with pytest.raises(InputError, match=r"\.mp4"):
        localize(film, tmp_path / "out.avi", fake_pairing(), progress=False)
    with pytest.raises(InputError, match="--fps"):
        localize(film, tmp_path / "out.mp4", fake_pairing(), options=Options(fps=0), progress=False)
    assert film.read_bytes() == before


# thresholds and shapes ---------------------------------------------------------------------------------------------------


def test_the_threshold_maximises_balanced_accuracy():
    own, wrong = np.array([0.9, 0.8, 0.75, 0.2]), np.array([0.1, 0.3, 0.4, 0.5, 0.6, 0.85])
    found = fit_threshold(own, wrong)
    accuracy = lambda t: ((own >= t).mean() + (wrong < t).mean()) / 2  # noqa: E731
    assert accuracy(found) == pytest.approx(max(accuracy(t) for t in np.linspace(0, 1, 1001)))
    assert 0.6 < found < 0.75
    with pytest.raises(ValueError, match="both kinds"):
        fit_threshold([], wrong)


def test_a_collapsed_model_calibrates_to_no_heat_rather_than_a_division_by_zero():
    flat = fit_calibration(np.ones(5), np.ones(20), np.ones(5), np.ones(5))
    assert flat.spread > 0
    assert flat.high > flat.low
    assert not flat.heat(np.ones((2, 2))).any()


def test_confidence_is_half_at_the_threshold():
    assert SCALE.confidence([0.8, 100.0, -100.0]) == pytest.approx([0.5, 1.0, 0.0])
    assert Calibration.from_json(SCALE.to_json(), "here") == SCALE
    with pytest.raises(InputError, match="here"):
        Calibration.from_json({"threshold": 1}, "here")


def test_shapes_are_read_off_the_views():
    shape = fake_pairing(frames=3, fps=5.0, seconds=0.8).shape
    assert (shape.video, shape.audio, shape.size, shape.frames, shape.seconds, shape.rate) == (
        "video",
        "audio",
        (64, 64),
        3,
        0.8,
        8000,
    )
    assert shape.spacing == pytest.approx(0.2)


def test_an_objective_must_be_able(tmp_path):
    from torch import nn

    encoders = {"video": ColourEncoder(), "audio": PitchEncoder()}
    from mmssl.cuts.pairs import PairViews

    able = ColourPitch(encoders=encoders, views=PairViews(frames=1))
    assert choose({"able": able}) == "able"
    with pytest.raises(InputError, match="no objective 'x'; it has able"):
        choose({"able": able}, "x")
    with pytest.raises(InputError, match="compares picture and sound"):
        choose({"blind": nn.Identity()})  # type: ignore[dict-item]
    with pytest.raises(InputError, match="does not compare"):
        pair("blind", nn.Identity(), encoders)  # type: ignore[arg-type]
    assert cut_shape("able", able).rate == 8000
