"""One film into a small one that is quick to cut: H.264 in groups of 8 pictures without B-frames, or JPEG pictures; mono sound; the same moments at the same times.

H.264 is written for quick decoding (x264's `fastdecode`: no deblocking, no arithmetic coding): cuts out of it took 0.7 of the CPU time, for 5 % more bytes.
JPEG is Motion JPEG in the same MP4, so that it is read by the same code; each picture decodes by itself.

Every picture keeps its time on the presentation clock, also where the rate varies and where picture or sound begin late (its stamp is up to half a
millisecond earlier, as far as the source's own stamps are rounded); rotation and pixel aspect are applied once and for all. Sound is what a `Wave` request of the whole would hear. Runs in a worker (`mmssl.data.probe_pool`).
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error
import numpy as np
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from mmssl.data.container import BROKEN, clock_start, open_media, orientation, picture_stream, pixel_aspect, rounding, shown_size
from mmssl.data.decode import answer
from mmssl.data.decode.picture import WHOLE, Painter, cut
from mmssl.data.decode.stamps import FrameClock
from mmssl.data.walk import reason_of
from mmssl.files import full_disk, make_aside
from mmssl.types import MediaError, Source, Wave

TICK = Fraction(1, 90_000)  # seconds between time stamps: the clock of broadcast, a hundredth of a millisecond
GROUP = 8  # pictures from one key frame to the next: at most 7 are decoded to reach any
BLOCK = 1024  # samples
FULL = "the disk is full"
FORMATS = {"h264": "yuv420p", "jpeg": "yuvj420p"}  # limited range, and full range, which is what a JPEG has by its standard


def reencode(
    path: str,
    target: str,
    short_side: int,
    rate: int,
    quality: int,
    video: bool,
    audio: list[float] | None,
    pictures: str = "h264",
) -> dict[str, Any]:
    """Write `path` anew as `target` (.mp4), whole or not at all. What is wrong with a file is a `reason`, never an exception.

    Args:
        path: the film.
        target: where it goes.
        short_side: pixels of the picture's shorter side; smaller pictures keep their size. Sides are even.
        rate: samples of sound a second.
        quality: of H.264, a constant rate factor: 18 is hardly to be told from the source, 6 more is half the bytes. JPEG is quantised as coarsely.
        video: whether it has a picture.
        audio: when its sound begins and ends; None: it has none.
        pictures: "h264" or "jpeg".

    Returns:
        {"reason": None or why it cannot be done, "bytes": of the new file, "frames": how many pictures}.
    """
    counted: list[int] = []

    def fill(part: Path) -> None:
        # A late beginning is noted in ticks of the film's own clock, by default whole milliseconds: 16 samples.
        clock = {"movie_timescale": str(math.lcm(TICK.denominator, rate))}
        with open_media(Path(path)) as film, av.open(str(part), "w", options=clock) as out:
            counted.append(_write(Path(path), film, out, (short_side, rate, quality, pictures), video, audio))

    try:
        make_aside(Path(target), fill)
    except (MediaError, OSError, *BROKEN) as error:
        if full_disk(error):  # no fault of the film's
            return {"reason": FULL}
        if isinstance(error, MediaError):
            return {"reason": f"cannot be re-encoded: {str(error).removeprefix(f'{path}: ')}"}
        if isinstance(error, OSError) and not isinstance(error, av.error.FFmpegError):
            return {"reason": reason_of(error)}
        return {"reason": f"cannot be re-encoded ({type(error).__name__})"}
    return {"reason": None, "bytes": os.path.getsize(target), "frames": counted[0]}  # noqa: PTH202 - a string as it came


def _write(
    path: Path,
    film: InputContainer,
    out: OutputContainer,
    form: tuple[int, int, int, str],
    video: bool,
    audio: list[float] | None,
) -> int:
    short_side, rate, quality, pictures = form
    frames = _frames(path, film, short_side, FORMATS[pictures]) if video else iter(())
    first = next(frames, None)
    if video and first is None:
        raise MediaError(f"{path}: no picture can be decoded")
    picture = sound = None
    if first is not None:
        picture = _picture_track(out, first, pictures, quality)
    if audio is not None:
        sound = out.add_stream("aac", rate=rate, layout="mono")
        assert isinstance(sound, AudioStream)
        sound.bit_rate = 6 * rate  # 96 kbit/s at 16 kHz
    packets = _sound_packets(path, sound, audio, rate) if sound is not None and audio is not None else iter(())
    waiting = next(packets, None)
    count = 0
    if picture is not None and first is not None:
        for frame in _chain(first, frames):
            count += 1
            for packet in picture.encode(frame):
                while waiting is not None and _seconds(waiting) <= _seconds(packet):  # side by side in the file, as they are read
                    out.mux(waiting)
                    waiting = next(packets, None)
                out.mux(packet)
        out.mux(picture.encode(None))
    while waiting is not None:
        out.mux(waiting)
        waiting = next(packets, None)
    return count


def _picture_track(out: OutputContainer, first: VideoFrame, pictures: str, quality: int) -> VideoStream:
    if pictures == "jpeg":
        step = str(quantiser(quality))
        stream = out.add_stream("mjpeg", rate=Fraction(25), options={"flags": "+qscale", "qmin": step, "qmax": step})
    else:
        options = {"crf": str(quality), "preset": "medium", "tune": "fastdecode", "bf": "0", "g": str(GROUP), "sc_threshold": "0"}
        stream = out.add_stream("libx264", rate=Fraction(25), options=options)
    assert isinstance(stream, VideoStream)
    stream.width, stream.height, stream.pix_fmt = first.width, first.height, FORMATS[pictures]
    stream.codec_context.time_base = TICK
    stream.time_base = TICK
    return stream


def quantiser(quality: int) -> int:
    """libav's JPEG quantiser (1 to 31) that is as coarse as a constant rate factor: both double the step, the latter every 6."""
    return min(31, max(1, round(2 ** ((quality - 12) / 6))))


def _frames(path: Path, film: InputContainer, short_side: int, pixel_format: str) -> Iterator[VideoFrame]:
    """All pictures, turned, small, stamped in `TICK`s of the presentation clock. Raises `MediaError` for damage."""
    stream = picture_stream(film)
    if stream is None:
        raise MediaError(f"{path}: no picture that can be decoded")
    stream.codec_context.thread_count = 1
    start, clock, painter = clock_start(film), FrameClock(), Painter()
    size: tuple[int, int] | None = None
    last = -1
    for frame in _decoded(film, stream):
        stamp = clock.stamp(frame)
        if stamp is None or stream.time_base is None:
            continue
        time = float(stamp * stream.time_base) - start
        if frame.is_corrupt:
            raise MediaError(f"{path}: the picture at {time:.3f} s is damaged")
        # A time takes the picture stamped up to `rounding` later. That of the new file is smaller, so its stamps come that much earlier.
        ticks = max(0, math.ceil((time - rounding(stream)) / TICK))
        if ticks <= last or time < -rounding(stream):  # shown never, or before the film begins
            continue
        turns, mirrored = orientation(frame)
        if size is None:
            size = small_size(shown_size(frame, pixel_aspect(stream)), short_side)
        pixels = cut(painter.rgb(frame), box=WHOLE, size=size, turns=turns, mirrored=mirrored)
        fresh = VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24").reformat(format=pixel_format)
        fresh.pts, fresh.time_base = ticks, TICK
        if frame.duration and frame.time_base:
            fresh.duration = round(frame.duration * frame.time_base / TICK)
        last = ticks
        yield fresh


def _decoded(film: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
    for packet in film.demux(stream):
        if packet.size or packet.pts is None:  # Theora's empty packet shows the last picture again; without a stamp it is the end
            yield from (frame for frame in packet.decode() if isinstance(frame, VideoFrame))


def small_size(shown: tuple[int, int], short_side: int) -> tuple[int, int]:
    """(height, width) in even numbers of a picture shown as (width, height), never larger than it was but by rounding."""
    factor = min(1.0, short_side / min(shown))
    width, height = (max(2, 2 * round(side * factor / 2)) for side in shown)
    return height, width


def _sound_packets(path: Path, stream: AudioStream, span: list[float], rate: int) -> Iterator[Packet]:
    first = math.ceil(span[0] * rate - 1e-6)
    count = math.floor(span[1] * rate + 1e-6) - first
    if count < 1:
        return
    wave = Wave(first / rate, count / rate, rate)
    samples = answer(Source(path.stem, path), [wave])[wave].numpy()
    for low in range(0, len(samples), BLOCK):
        frame = av.AudioFrame.from_ndarray(samples[None, low : low + BLOCK], format="fltp", layout="mono")
        frame.sample_rate, frame.time_base, frame.pts = rate, Fraction(1, rate), first + low
        yield from stream.encode(frame)
    yield from stream.encode(None)


def _chain(first: VideoFrame, rest: Iterator[VideoFrame]) -> Iterator[VideoFrame]:
    yield first
    yield from rest


def _seconds(packet: Packet) -> float:
    stamp = packet.dts if packet.dts is not None else packet.pts or 0
    return float(stamp * packet.time_base)
