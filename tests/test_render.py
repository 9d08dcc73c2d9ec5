import av
import numpy as np
import pytest

from mmssl.downstream.heatmap import Placement, overlay
from mmssl.downstream.localize import look_at
from mmssl.downstream.panel import Panel
from mmssl.downstream.render import BLOCK, FilmWriter, sound_blocks, sound_format
from mmssl.downstream.soundtrack import SlidingSound, level
from mmssl.rng import rng_for
from mmssl.types import MediaError
from tests.fake_world import squares, tone, write_film


def click_film(path, *, at=1.0, sound_from=0.0, seconds=2.0, **kwargs):
    """White for 0.1 s and a click, both at `at`; the sound stream begins at `sound_from`."""
    rate = kwargs.pop("rate", 16000)
    sound = np.zeros(round((seconds - sound_from) * rate), np.float32)
    first = round((at - sound_from) * rate)
    sound[first : first + rate // 100] = 0.8 * np.sin(np.arange(rate // 100) * 0.8)
    return write_film(
        path,
        lambda t: np.full((64, 96, 3), 255 if at <= t < at + 0.1 - 1e-6 else 20, np.uint8),
        sound,
        seconds=seconds,
        rate=rate,
        sound_from=sound_from,
        **kwargs,
    )


def flash_and_click(path):
    """When, in seconds of the file's own stamps, the first white picture is shown and the click begins."""
    with av.open(str(path)) as container:
        flash = next(float(f.pts * f.time_base) for f in container.decode(video=0) if f.to_ndarray(format="gray").mean() > 128)
    with av.open(str(path)) as container:
        for frame in container.decode(audio=0):
            loud = np.flatnonzero(np.abs(frame.to_ndarray()).max(axis=0) > 0.2)
            if len(loud):
                return flash, float(frame.pts * frame.time_base) + loud[0] / frame.sample_rate
    raise AssertionError("no click")


def blocks(path):
    rate, channels = sound_format(path)
    return np.concatenate(list(sound_blocks(path, rate, channels)), axis=1), rate


@pytest.mark.parametrize(
    ("name", "sound_from", "options"),
    [
        ("plain.mp4", 0.0, {}),
        ("late.mp4", 0.7, {}),
        ("late.mkv", 0.7, {"audio_codec": "libopus", "rate": 48000}),
        ("mpeg.mpg", 0.0, {"codec": "mpeg1video", "audio_codec": "mp2", "fps": 25, "rate": 44100}),
    ],
)
def test_sound_stays_with_the_picture(tmp_path, name, sound_from, options):
    from mmssl.data.playback import play_frames

    film = click_film(tmp_path / name, sound_from=sound_from, **options)
    out = tmp_path / "out.mp4"
    with FilmWriter(out, size=(64, 96), fps=25, sound=film) as writer:
        for moment, picture in play_frames(film, fps=25, size=(64, 96), start=look_at(film).begin):
            writer.write(moment, picture)
    (flash, click), (was_flash, was_click) = flash_and_click(out), flash_and_click(film)
    # An MP2 encoder's delay is in its file for good: the film must be as it was. 12 ms: the click's rise, AAC's spread.
    assert click - flash == pytest.approx(was_click - was_flash, abs=0.012)
    assert abs(was_click - was_flash) < 0.05
    with av.open(str(out)) as container:
        assert {s.codec_context.name for s in container.streams} == {"h264", "aac"}
        assert container.streams.audio[0].codec_context.sample_rate == min(options.get("rate", 16000), 48000)


def test_sound_blocks_are_gapless_from_zero(tmp_path):
    film = click_film(tmp_path / "late.mp4", at=1.5, sound_from=0.7)
    sound, rate = blocks(film)
    assert rate == 16000
    assert np.abs(sound[:, : round(0.65 * rate)]).max() == 0.0
    assert np.flatnonzero(np.abs(sound[0]) > 0.2)[0] / rate == pytest.approx(1.5, abs=0.005)
    assert all(block.shape == (1, BLOCK) for block in list(sound_blocks(film, rate, 1))[:-1])


def test_stereo_stays_stereo_and_more_channels_become_two(tmp_path):
    sides = np.stack([tone(400, 1.0, rate=48000), tone(1600, 1.0, rate=48000)])
    film = write_film(tmp_path / "stereo.mp4", lambda t: squares(None, None), sides, seconds=1, rate=48000)
    sound, rate = blocks(film)
    power = np.abs(np.fft.rfft(sound[:, 4800:43200]))
    peaks = power.argmax(axis=1) * rate / 38400
    assert peaks == pytest.approx([400, 1600], abs=2)


def test_colours_come_back_as_they_were_drawn(tmp_path):
    picture = squares((20, 20), (44, 44), side=24)
    with FilmWriter(tmp_path / "c.mp4", size=(64, 64), fps=10, sound=None, quality=5) as writer:
        for k in range(5):
            writer.write(k / 10, picture)
    with av.open(str(tmp_path / "c.mp4")) as container:
        frame = next(container.decode(video=0))
        assert frame.colorspace == 1
        back = frame.to_ndarray(format="rgb24")
    for x, y in ((20, 20), (44, 44), (5, 60)):
        assert np.abs(back[y, x].astype(int) - picture[y, x].astype(int)).max() <= 12


def test_an_odd_size_is_refused_and_a_silent_file_has_no_format(tmp_path):
    with pytest.raises(ValueError, match="even"):
        FilmWriter(tmp_path / "a.mp4", size=(63, 64), fps=10)
    film = write_film(tmp_path / "mute.mp4", lambda t: squares(None, None), None, seconds=0.5)
    with pytest.raises(MediaError, match="no sound"):
        sound_format(film)


# placing and colouring ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("offset", "stride"), [(0.0, 8.0), (3.5, 8.0), (7.5, 16.0)])
def test_a_cell_lands_where_the_encoder_says(offset, stride):
    place = Placement((8, 8), offset=offset, stride=stride, seen=(128, 128), shown=(128, 128))
    values = np.zeros((8, 8), np.float32)
    values[3, 5] = 1
    y, x = (np.indices((128, 128)) * place(values)).sum((1, 2)) / place(values).sum()
    assert (y, x) == pytest.approx((offset + 3 * stride, offset + 5 * stride), abs=0.01)


def test_placement_scales_to_the_shown_picture():
    # offset 3.5 of stride 8: cell 2 covers pixels 16..23 of 64, that is 64..95 of 256, centred on 79.5
    place = Placement((8, 8), offset=3.5, stride=8, seen=(64, 64), shown=(256, 128))
    values = np.zeros((8, 8), np.float32)
    values[2, 2] = 1
    y, x = (np.indices((256, 128)) * place(values)).sum((1, 2)) / place(values).sum()
    assert (y, x) == pytest.approx((79.5, 39.5), abs=0.01)
    with pytest.raises(ValueError, match="maps of"):
        place(np.zeros((7, 8)))


def test_overlay_leaves_the_picture_where_there_is_no_heat():
    picture = rng_for(0, "picture").integers(256, size=(40, 60, 3)).astype(np.uint8)
    heat = np.zeros((40, 60), np.float32)
    assert np.array_equal(overlay(picture, heat), picture)
    heat[10:20, 10:20] = 0.4
    shown = overlay(picture, heat)
    assert np.array_equal(shown[25:], picture[25:])
    assert not np.array_equal(shown[10:20, 10:20], picture[10:20, 10:20])
    assert np.array_equal(overlay(picture, heat, strength=0.0), picture)


@pytest.mark.parametrize("width", [96, 160, 512, 1280])
def test_the_panel_fits_any_width_and_moves(width):
    times = np.arange(20) / 10
    panel = Panel(
        width, times=times, levels=np.full(20, -20.0), confidence=np.full(20, 0.7), states=["seen"] * 10 + ["silent"] * 10
    )
    first, later = panel.draw(0.2, 2), panel.draw(1.5, 15)
    assert first.shape == (panel.height, width, 3)
    assert panel.height % 2 == 0
    assert not np.array_equal(first, later)


# windows of sound --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk", [7, 100, 1000, 100000])
def test_sliding_windows_are_centred_and_move_inward_at_the_ends(chunk):
    track = np.arange(5000, dtype=np.float32)
    sound = SlidingSound((track[i : i + chunk] for i in range(0, 5000, chunk)), rate=1000, seconds=0.4)
    for moment in np.arange(0, 5.2, 0.05):
        first = int(np.clip(round(moment * 1000 - 200), 0, 4600))
        assert np.array_equal(sound.around(float(moment)), track[first : first + 400])
    assert len(sound._buffer) <= max(3 * 400, chunk + 800)


def test_a_sound_shorter_than_the_window_is_padded_and_time_does_not_run_back():
    sound = SlidingSound([np.ones(100, np.float32)], rate=1000, seconds=0.4)
    assert sound.around(0.0).tolist() == [1.0] * 100 + [0.0] * 300
    sound = SlidingSound((np.ones(1000, np.float32) for _ in range(5)), rate=1000, seconds=0.4)
    sound.around(4.0)
    with pytest.raises(ValueError, match="backwards"):
        sound.around(1.0)


def test_levels():
    assert level(np.ones(10)) == pytest.approx(0.0)
    assert level(0.1 * np.ones(10)) == pytest.approx(-20.0)
    assert level(np.zeros(10)) == -120.0


def test_only_the_sound_between_two_moments_goes_in(tmp_path):
    """A click at 1.2 s of the original is heard 0.5 s into a film that begins at 0.7 s; what comes after its end is left out."""
    original = click_film(tmp_path / "film.mp4", at=1.2, seconds=4.0)
    with FilmWriter(tmp_path / "part.mp4", size=(64, 96), fps=10.0, sound=original, begin=0.7, end=2.0) as film:
        for k in range(13):
            film.write(k / 10, np.full((64, 96, 3), 255 if k == 5 else 20, np.uint8))
    flash, click = flash_and_click(tmp_path / "part.mp4")
    assert flash == pytest.approx(0.5, abs=1e-3)
    assert click == pytest.approx(0.5, abs=0.03)
    rate, channels = sound_format(original)
    for begin, end in ((0.0, None), (0.7, 2.0), (0.0, 0.01), (3.99, 9.0)):
        whole = np.concatenate(list(sound_blocks(original, rate, channels)), axis=1)
        part = np.concatenate([np.zeros((channels, 0)), *sound_blocks(original, rate, channels, begin=begin, end=end)], axis=1)
        np.testing.assert_array_equal(part, whole[:, round(begin * rate) : None if end is None else round(end * rate)])
