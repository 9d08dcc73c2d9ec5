"""Click-and-flash films: sound and picture of one file stand on one clock; windows begin where they should."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from mmssl.data.container import clock_start, open_media, picture_stream, sound_stream, tick
from mmssl.data.decode import answer
from mmssl.data.decode.sound import resample_at
from mmssl.data.decode.stamps import DoubtError
from mmssl.data.playback import play_frames, play_wave, read_wave
from mmssl.types import Frames, MediaError, Source, Wave
from tests.media_makers import make_flash_and_click

EVENTS = (1.0, 2.2, 3.48, 4.8)
X264 = {"preset": "ultrafast", "bf": "2", "g": "25"}


@dataclass(frozen=True)
class Clip:
    suffix: str
    video: str
    audio: str
    more: dict = field(default_factory=dict)
    within: float = 0.001  # seconds that the click may lie off the flash


CLIPS = {
    "mp4_aac": Clip("mp4", "libx264", "aac", {"options": X264}),
    "mp4_aac_late_video": Clip("mp4", "libx264", "aac", {"options": X264, "video_from": 0.2}),
    "mp4_aac_late_audio": Clip("mp4", "libx264", "aac", {"options": X264, "audio_from": 0.4}),
    "mp4_aac_5_1": Clip("mp4", "libx264", "aac", {"options": X264, "layout": "5.1", "rate": 48000}),
    "mp4_mp3": Clip("mp4", "libx264", "libmp3lame", {"options": X264}),
    "mp4_aac_11k": Clip("mp4", "libx264", "aac", {"options": X264, "rate": 11025, "layout": "mono"}),
    "mkv_opus": Clip("mkv", "libx264", "libopus", {"options": X264, "rate": 48000}),
    "mkv_opus_late": Clip("mkv", "libx264", "libopus", {"options": X264, "rate": 48000, "video_from": 0.4, "audio_from": 0.8}),
    "mkv_flac": Clip("mkv", "libx264", "flac", {"options": X264}),
    "webm_vorbis": Clip(
        "webm",
        "libvpx",
        "vorbis",
        {"options": {"cpu-used": "8", "deadline": "realtime"}, "sound_options": {"strict": "experimental"}},
    ),
    "mov_pcm": Clip("mov", "libx264", "pcm_s16le", {"options": X264, "rate": 32000}),
    "avi_mp3": Clip("avi", "mpeg4", "libmp3lame", within=0.026),  # AVI has no place for the encoder's delay: ffmpeg is as late
    "ts_mp2": Clip("ts", "libx264", "mp2", {"options": X264}),
    "ts_mp2_late": Clip("ts", "mpeg2video", "mp2", {"audio_from": 0.6}),
    "mpg_mp2": Clip("mpg", "mpeg1video", "mp2"),
}


@pytest.fixture(scope="module")
def clip(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Source, float, float]:
    """(source, seconds by which its clock runs behind the film's, tolerance)."""
    made: Clip = CLIPS[request.param]
    path = tmp_path_factory.mktemp("clips") / f"{request.param}.{made.suffix}"
    make_flash_and_click(path, video=made.video, audio=made.audio, events=EVENTS, **made.more)
    begins = min(made.more.get("video_from", 0.0), made.more.get("audio_from", 0.0))
    return Source("clip", path), begins, made.within


def onset(samples: np.ndarray, rate: int) -> float:
    """Seconds from the start of a window to where the tone begins: half of its height, less the rise of half a period's sine."""
    loud = np.abs(samples) > 0.25 * np.abs(samples).max()
    return float(np.argmax(loud)) / rate


def flash(source: Source, around: float) -> float:
    """When the first white frame is shown, to 2 ms."""
    times = tuple(around - 0.1 + i * 0.002 for i in range(100))
    bright = answer(source, [Frames(times, 8)])[Frames(times, 8)].float().mean(dim=(1, 2, 3)) > 127
    return times[int(bright.int().argmax())]


every_clip = pytest.mark.parametrize("clip", list(CLIPS), indirect=True, scope="module")


@every_clip
def test_the_click_sounds_as_the_flash_is_seen(clip: tuple[Source, float, float]) -> None:
    source, begins, within = clip
    for number, (event, rate) in enumerate(zip(EVENTS, (16000, 48000, 16000, 22050), strict=True)):
        seen = flash(source, event - begins)
        if begins == 0 and source.path.suffix not in (".ts", ".mpg", ".avi"):
            assert seen == pytest.approx(event, abs=0.0025)
        window = Wave(seen - 0.111 - 0.01 * number, 0.5, rate)
        heard = window.start + onset(answer(source, [window])[window].numpy(), rate)
        assert heard == pytest.approx(seen, abs=0.002 + within)


@every_clip
def test_windows_are_cut_from_one_line(clip: tuple[Source, float, float]) -> None:
    source, _, _ = clip
    rate = 16000
    whole = read_wave(source.path, rate)
    starts = (0.913, 2.1, 4.7001)
    waves = [Wave(start, 0.6, rate) for start in starts]
    got = answer(source, waves)
    for wave in waves:
        single = answer(source, [wave])[wave].numpy()
        assert len(single) == round(0.6 * rate)
        alone, together = onset(single, rate), onset(got[wave].numpy(), rate)
        played = onset(whole[round(wave.start * rate) :][: len(single)], rate)
        assert alone == pytest.approx(together, abs=0.0005) and alone == pytest.approx(played, abs=0.001)


@every_clip
def test_beyond_the_end_and_before_the_beginning(clip: tuple[Source, float, float]) -> None:
    source, _, _ = clip
    with pytest.raises(MediaError, match="sound ends at"):
        answer(source, [Wave(5.7, 1.0, 16000)])
    early = Wave(-1.0, 0.9, 16000)
    assert not answer(source, [early])[early].any()


def test_in_pieces_it_is_the_same(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    make_flash_and_click(path, video="libx264", audio="aac", events=EVENTS, options=X264)
    whole = read_wave(path, 16000)
    pieces = list(play_wave(path, rate=16000, chunk=0.7))
    assert {len(p) for p in pieces[:-1]} == {11200}
    joined = np.concatenate(pieces)
    assert len(joined) == len(whole) and np.abs(joined - whole).max() < 1e-3
    part = np.concatenate(list(play_wave(path, rate=16000, chunk=0.5, start=2.0, end=4.0)))
    assert len(part) == 32000 and np.abs(part - whole[32000:64000]).max() < 2e-3


def test_playing_frames_is_answering_at_a_rate(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    make_flash_and_click(path, video="libx264", audio="aac", events=EVENTS, options=X264, video_from=0.2)
    shown = list(play_frames(path, fps=7.0, size=16, start=0.05, end=5.5))
    times = tuple(time for time, _ in shown)
    assert times == pytest.approx([0.05 + i / 7 for i in range(len(times))]) and len(times) == 39
    got = answer(Source("a", path), [Frames(times, 16)])[Frames(times, 16)].permute(0, 2, 3, 1).numpy()
    assert np.array_equal(got, np.stack([pixels for _, pixels in shown]))
    late = list(play_frames(path, fps=5.0, size=16, start=3.0))
    assert late[0][0] == 3.0 and late[-1][0] == pytest.approx(5.8)


@pytest.mark.parametrize(
    ("source_rate", "rate"), [(44100, 16000), (48000, 16000), (8000, 16000), (11025, 22050), (44101, 16000), (22050, 48000)]
)
def test_resampling_has_no_lag(source_rate: int, rate: int) -> None:
    def tone(first: int, length: int) -> tuple[np.ndarray, int]:
        at = np.arange(first, first + length) / source_rate
        return np.sin(2 * np.pi * 440 * at).astype(np.float32), 10**9

    wave = Wave(3.25, 0.5, rate)
    got = resample_at(tone, wave, source_rate)
    start = round(3.25 * source_rate) / source_rate  # the nearest sample of the source
    truth = np.sin(2 * np.pi * 440 * (start + np.arange(len(got)) / rate))
    assert len(got) == rate // 2 and np.abs(got - truth).max() < 5e-3


def test_past_the_end_of_a_line() -> None:
    with pytest.raises(DoubtError, match=r"ends at 1\.000 s"):
        resample_at(lambda first, length: (np.zeros(length, np.float32), 16000), Wave(0.5, 0.6, 16000), 16000)


def test_the_clock_begins_with_the_first_stream(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    make_flash_and_click(path, video="libx264", audio="flac", events=(3.0,), options=X264, video_from=1.0, audio_from=2.0)
    with open_media(path) as container:
        picture, sound = picture_stream(container), sound_stream(container)
        assert picture is not None and sound is not None and picture.start_time is not None and sound.start_time is not None
        assert picture.start_time * tick(picture) == pytest.approx(clock_start(container), abs=0.002)
        assert sound.start_time * tick(sound) - clock_start(container) == pytest.approx(1.0, abs=0.002)
