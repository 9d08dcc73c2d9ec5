"""Numbered films in many codecs and containers: the frame shown at a time is the right one, and skipping changes no bit."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from mmssl.data.container import clock_start, open_media, picture_stream
from mmssl.data.decode import answer, pyav
from mmssl.data.decode.stamps import DoubtError
from mmssl.rng import rng_for
from mmssl.types import Frames, MediaError, Source
from tests.media_makers import HEIGHT, WIDTH, make_film, numbers_in, stream_copy

SIZE = (HEIGHT, WIDTH)


@dataclass(frozen=True)
class Film:
    suffix: str
    codec: str
    options: dict[str, str] = field(default_factory=dict)
    more: dict = field(default_factory=dict)
    cut: float = 0.0


X264 = {"preset": "ultrafast", "bf": "3", "b-pyramid": "normal", "sc_threshold": "0"}
VFR = [0, 1, 2, 5, 6, 7, 12, 13, 20, 21, 22, 23, 30, 34, 35, 36, 37, 50, 51, 52, *range(60, 140)]
FILMS = {
    "h264_gop12": Film("mp4", "libx264", {**X264, "g": "12"}),
    "h264_gop250": Film("mp4", "libx264", {**X264, "g": "250"}, {"frames": 150}),
    "h264_no_b": Film("mp4", "libx264", {"preset": "ultrafast", "bf": "0", "g": "10"}),
    "h264_open_gop": Film("mp4", "libx264", {"x264-params": "keyint=20:min-keyint=20:scenecut=0:open-gop=1:bframes=3"}),
    "h264_open_gop_ts": Film("ts", "libx264", {"x264-params": "keyint=20:min-keyint=20:scenecut=0:open-gop=1:bframes=3"}),
    "h264_vfr": Film("mp4", "libx264", {**X264, "g": "15"}, {"pts": VFR, "time_base": Fraction(1, 60)}),
    "h264_vfr_mkv": Film("mkv", "libx264", {**X264, "g": "15"}, {"pts": VFR, "time_base": Fraction(1, 60)}),
    "h264_fragmented": Film(
        "mp4", "libx264", {**X264, "g": "12"}, {"container_options": {"movflags": "frag_keyframe+empty_moov+default_base_moof"}}
    ),
    "h264_cut": Film("mp4", "libx264", {**X264, "g": "30"}, {"frames": 120}, cut=1.72),
    "h264_cut_mkv": Film("mkv", "libx264", {**X264, "g": "30"}, {"frames": 120}, cut=1.72),
    "h264_late": Film("mkv", "libx264", {**X264, "g": "12"}, {"first": Fraction(7)}),
    "h264_ntsc_mkv": Film("mkv", "libx264", {**X264, "g": "12"}, {"rate": Fraction(30000, 1001)}),
    "h264_ts": Film("ts", "libx264", {**X264, "g": "12"}),
    "h264_1000fps": Film("mkv", "libx264", {**X264, "g": "12"}, {"rate": 1000}),
    "h264_interlaced": Film("mp4", "libx264", {"preset": "ultrafast", "flags": "+ildct+ilme", "g": "12"}),
    "h264_422_10": Film("mkv", "libx264", {**X264, "g": "12"}, {"pixels": "yuv422p10le"}),
    "hevc": Film("mp4", "libx265", {"preset": "ultrafast", "x265-params": "keyint=20:bframes=3:log-level=none:pools=1"}),
    "hevc_open": Film("mkv", "libx265", {"x265-params": "keyint=20:min-keyint=20:open-gop=1:bframes=4:log-level=none:pools=1"}),
    "vp8": Film(
        "webm", "libvpx", {"deadline": "realtime", "cpu-used": "8", "g": "20", "auto-alt-ref": "1", "lag-in-frames": "8"}
    ),
    "vp9": Film("webm", "libvpx-vp9", {"deadline": "good", "cpu-used": "8", "g": "20", "lag-in-frames": "12", "row-mt": "0"}),
    "av1": Film("mp4", "libsvtav1", {"preset": "8", "crf": "20", "g": "20", "svtav1-params": "lp=1"}),
    "av1_webm": Film("webm", "libsvtav1", {"preset": "8", "crf": "20", "g": "20", "svtav1-params": "lp=1"}),
    "mpeg4_avi": Film("avi", "mpeg4", {"q": "3", "g": "12"}),
    "mpeg4_b_avi": Film("avi", "mpeg4", {"g": "12", "bf": "2", "b": "2000000"}),
    "mpeg4_b_mp4": Film("mp4", "mpeg4", {"g": "12", "bf": "2", "b": "2000000"}),
    "mpeg1_mpg": Film("mpg", "mpeg1video", {"g": "12", "bf": "2", "b": "2000000"}),
    "mpeg2_mpg": Film("mpg", "mpeg2video", {"g": "12", "bf": "2", "b": "2000000"}),
    "mpeg2_ts": Film("ts", "mpeg2video", {"g": "12", "bf": "2", "b": "2000000"}),
    "mjpeg_avi": Film("avi", "mjpeg", {"q": "3"}, {"pixels": "yuvj420p"}),
    "mjpeg_mp4": Film("mp4", "mjpeg", {"q": "3"}, {"pixels": "yuvj420p"}),
    "ffv1_mkv": Film("mkv", "ffv1", {"level": "1", "g": "12"}),  # pictures between key frames go on with the coder's state
    "ffv1_intra_mkv": Film("mkv", "ffv1", {"level": "3", "g": "1"}),
    "flv": Film("flv", "libx264", {**X264, "g": "12"}),
}


@pytest.fixture(scope="module")
def film(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Source, list[float], list[int]]:
    """A film, the times of its shown frames on its clock, and their numbers, by decoding it from start to end."""
    made: Film = FILMS[request.param]
    path = tmp_path_factory.mktemp("films") / f"{request.param}.{made.suffix}"
    make_film(path, codec=made.codec, options=made.options, **{"frames": 100, **made.more})
    if made.cut:
        whole, path = path, path.with_name(f"cut.{made.suffix}")
        stream_copy(whole, path, start=made.cut)
    times, numbers = played(path)
    return Source("film", path), times, numbers


def played(path: Path) -> tuple[list[float], list[int]]:
    """Times and numbers of all frames, decoded in order with nothing skipped or sought."""
    from mmssl.data.container import tick
    from mmssl.data.decode.stamps import FrameClock
    from tests.media_makers import number_in

    clock, times, numbers = FrameClock(), [], []
    with open_media(path) as container:
        stream = picture_stream(container)
        assert stream is not None
        stream.codec_context.thread_type = "NONE"
        for frame in container.decode(stream):
            stamp = clock.stamp(frame)
            assert stamp is not None
            times.append(stamp * tick(stream) - clock_start(container))
            numbers.append(number_in(frame.to_ndarray(format="rgb24")))
    return times, numbers


every_film = pytest.mark.parametrize("film", list(FILMS), indirect=True, scope="module")


@every_film
def test_the_frame_shown_at_a_time(film: tuple[Source, list[float], list[int]], request: pytest.FixtureRequest) -> None:
    source, times, numbers = film
    assert -1 not in numbers and numbers == sorted(numbers), "the film itself is not what it should be"
    assert len(numbers) > 40
    rng = rng_for(1, request.node.name)
    edges = np.array([*times, times[-1] + min(0.03, times[-1] - times[-2])])
    for k in (1, 2, 3, 8, 16):
        inside = np.sort(rng.integers(0, len(times), k))
        part = rng.choice([0.0, 0.3, 0.9 if times[1] - times[0] > 0.002 else 0.4], k)  # half a millisecond is rounding
        wanted = tuple(float(edges[i] + p * (edges[i + 1] - edges[i])) for i, p in zip(inside, part, strict=True))
        got = answer(source, [Frames(wanted, SIZE)])[Frames(wanted, SIZE)]
        assert numbers_in(got) == [numbers[i] for i in inside], wanted


@every_film
def test_skipping_changes_no_bit(film: tuple[Source, list[float], list[int]], monkeypatch: pytest.MonkeyPatch) -> None:
    source, times, _ = film
    requests = (
        [Frames((t, t + 0.31, t + 0.9), SIZE) for t in np.linspace(0, times[-1] - 0.9, 6)]
        if times[-1] > 1
        else [Frames((0.03, 0.05), SIZE)]
    )
    skipping = [answer(source, [request])[request] for request in requests]
    monkeypatch.setattr(pyav, "SKIPPING", ())
    for request, pixels in zip(requests, skipping, strict=True):
        assert np.array_equal(answer(source, [request])[request].numpy(), pixels.numpy())


@every_film
def test_before_the_first_and_after_the_last(film: tuple[Source, list[float], list[int]]) -> None:
    source, times, numbers = film
    early = Frames((-1.0, times[0]), SIZE)
    assert numbers_in(answer(source, [early])[early]) == [numbers[0], numbers[0]]
    last = Frames((times[-1],), SIZE)
    assert numbers_in(answer(source, [last])[last]) == [numbers[-1]]
    with pytest.raises(MediaError, match=r"ends at"):
        answer(source, [Frames((times[-1] + 1.0,), SIZE)])


@pytest.mark.parametrize("film", ["h264_gop12", "h264_gop250", "vp9", "mpeg2_mpg", "h264_late"], indirect=True, scope="module")
def test_several_requests_far_apart_and_out_of_order(film: tuple[Source, list[float], list[int]]) -> None:
    source, times, numbers = film
    requests = [
        Frames((times[90], times[2]), SIZE),
        Frames((times[2], times[91], times[40]), SIZE),
        Frames((times[3],), (32, 48)),
    ]
    got = answer(source, requests)
    assert numbers_in(got[requests[0]]) == [numbers[90], numbers[2]]
    assert numbers_in(got[requests[1]]) == [numbers[2], numbers[91], numbers[40]]
    assert got[requests[2]].shape == (1, 3, 32, 48) and numbers_in(got[requests[2]]) == [numbers[3]]


@pytest.mark.parametrize(
    "film", ["h264_gop12", "h264_gop250", "hevc", "h264_open_gop", "vp9", "h264_cut"], indirect=True, scope="module"
)
def test_the_fast_attempt_suffices(film: tuple[Source, list[float], list[int]], monkeypatch: pytest.MonkeyPatch) -> None:
    doubts: list[DoubtError] = []

    def note(self: DoubtError, *args: object) -> None:
        Exception.__init__(self, *args)
        doubts.append(self)

    monkeypatch.setattr(DoubtError, "__init__", note)
    source, times, _ = film
    for time in times[5:80:7]:
        answer(source, [Frames((time, time + 0.1), SIZE)])
    assert not doubts
