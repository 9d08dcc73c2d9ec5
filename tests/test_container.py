"""Streams, clock and rules of an opened file; and real clips against a plain decode from start to end."""

from __future__ import annotations

import gc
import os
from fractions import Fraction
from pathlib import Path

import av
import av.error
import numpy as np
import pytest

from mmssl.data.container import (
    clock_start,
    open_media,
    orientation,
    picture_stream,
    pixel_aspect,
    rounding,
    shown_size,
    sound_stream,
    tick,
)
from mmssl.data.decode import answer
from mmssl.data.decode.picture import Painter, centred_box, cut
from mmssl.data.decode.stamps import FrameClock
from mmssl.rng import rng_for
from mmssl.types import Frames, MediaError, Source, Wave
from tests.media_makers import make_film, make_flash_and_click, numbers_in

X264 = {"preset": "ultrafast", "g": "12"}
MEDIA = Path(os.environ.get("MMSSL_MEDIA", Path(__file__).parents[2] / "shared" / "media"))
real = pytest.mark.skipif(not MEDIA.is_dir(), reason=f"no real clips at {MEDIA} (set MMSSL_MEDIA)")
FILMS = sorted(
    path
    for folder in ("web", "silent", "grid", "actions", "gestures", "subtitled", "odd")
    for path in (MEDIA / folder).rglob("*")
    if path.suffix in (".mp4", ".avi", ".mkv", ".webm", ".mpg", ".ts", ".ogv", ".3gp")
)


def test_the_clock_begins_at_the_first_stamp(tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    make_film(path, frames=20, options=X264, first=Fraction(7))
    with open_media(path) as container:
        assert clock_start(container) == pytest.approx(7.0)
    request = Frames((0.0, 0.4), (64, 96))
    assert numbers_in(answer(Source("a", path), [request])[request]) == [0, 10]


def test_a_name_is_a_name_and_no_address(tmp_path: Path) -> None:
    for name in ("-dash .mp4", "concat:a|b.mp4", "ünï & 100%d.mp4"):
        path = tmp_path / name
        make_film(tmp_path / "plain.mp4", frames=5, options=X264)
        (tmp_path / "plain.mp4").rename(path)
        request = Frames((0.0,), 8)
        assert answer(Source("a", path), [request])[request].shape == (1, 3, 8, 8)


def test_an_empty_file_is_called_empty(tmp_path: Path) -> None:
    (tmp_path / "zero.mp4").touch()
    with pytest.raises(MediaError, match=r"zero\.mp4: is empty \(0 bytes\)"), open_media(tmp_path / "zero.mp4"):
        pass


def test_cover_art_is_no_picture(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as out:
        art = out.add_stream("mjpeg", rate=1)
        art.width, art.height, art.pix_fmt = 32, 32, "yuvj420p"
        art.disposition = av.stream.Disposition.attached_pic
        sound = out.add_stream("aac", rate=16000, layout="mono")
        out.mux(art.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8))))
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 16000, 0
        out.mux([*art.encode(None), *sound.encode(frame), *sound.encode(None)])
    with open_media(path) as container:
        assert picture_stream(container) is None and sound_stream(container) is not None
    with pytest.raises(MediaError, match="no picture that can be decoded"):
        answer(Source("a", path), [Frames((0.0,), 8)])


def test_only_errors_of_libav_become_media_errors(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    make_film(path, frames=5, options=X264)
    with pytest.raises(ValueError, match="mine"), open_media(path):
        raise ValueError("mine")
    (tmp_path / "text.mp4").write_text("not a film")
    with pytest.raises(MediaError, match=r"text\.mp4: cannot be opened"), open_media(tmp_path / "text.mp4"):
        pass
    with pytest.raises(MediaError, match="No such file"), open_media(tmp_path / "none.mp4"):
        pass


@real
def test_real_clips_against_a_plain_decode() -> None:
    check_clips([FILMS[i] for i in rng_for(3, "clips").permutation(len(FILMS))[:14]], most=250)


@real
@pytest.mark.slow
def test_all_real_clips_against_a_plain_decode() -> None:
    check_clips(FILMS, most=2000)


def check_clips(paths: list[Path], most: int) -> None:
    compared = 0
    for path in paths:
        times, frames, slack = plainly(path, most)
        if len(times) < 3 or np.any(np.diff(times) <= 0):
            continue
        rng = rng_for(5, path.name)
        for count in (1, 4):
            wanted = tuple(float(t) for t in np.sort(rng.uniform(-0.1, times[-1], count)))
            request = Frames(wanted, 32)
            got = answer(Source(path.stem, path), [request])[request].permute(0, 2, 3, 1).numpy()
            for time, pixels in zip(wanted, got, strict=True):
                place = max(0, int(np.searchsorted(times, time + slack, side="right")) - 1)
                assert np.array_equal(pixels, frames[place]), f"{path.name} at {time}"
                compared += 1
    assert compared >= 2 * len(paths)


def plainly(path: Path, most: int) -> tuple[np.ndarray, list[np.ndarray], float]:
    """Times and small pictures of the first frames, decoded from the start with nothing skipped."""
    clock, painter, times, frames, slack = FrameClock(), Painter(), [], [], 0.0
    try:
        with open_media(path) as container:
            stream = picture_stream(container)
            if stream is None:
                return np.zeros(0), [], 0.0
            stream.codec_context.thread_type = "NONE"
            slack = rounding(stream)
            for packet in container.demux(stream):
                try:
                    decoded = packet.decode()
                except (av.error.InvalidDataError, av.error.ArgumentError):
                    continue
                for frame in decoded:
                    stamp = clock.stamp(frame)
                    if stamp is None:
                        continue
                    turns, mirrored = orientation(frame)
                    box = centred_box(shown_size(frame, pixel_aspect(stream)), (32, 32))
                    times.append(stamp * tick(stream) - clock_start(container))
                    frames.append(cut(painter.rgb(frame), box=box, size=(32, 32), turns=turns, mirrored=mirrored).copy())
                if len(times) > most:
                    break
    except MediaError:
        return np.zeros(0), [], 0.0
    return np.array(times), frames, slack


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="needs /proc")
@pytest.mark.parametrize("rows", [400, pytest.param(10_000, marks=pytest.mark.slow)])
def test_memory_stays_flat(rows: int, tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    make_flash_and_click(path, video="libx264", audio="aac", events=(1.0,), seconds=2.0, options=X264)
    broken = tmp_path / "b.mp4"
    broken.write_bytes(path.read_bytes()[:-9000])
    before = 0
    for row in range(rows):
        start = 0.5 + row % 50 / 100
        answer(Source("a", path), [Frames((start, start + 0.2), 64), Wave(start, 0.5, 16000)])
        if row % 10 == 0:
            with pytest.raises(MediaError):
                answer(Source("b", broken), [Frames((0.1,), 64)])
        if row == min(200, rows // 2):
            gc.collect()
            before = resident()
    gc.collect()
    assert resident() - before < 8 * 2**20
