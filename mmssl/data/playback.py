"""Reading a file from one end to the other: constant memory, the clock and the geometry of `mmssl.data.decode`.

For downstream use on files of any length. Unlike `answer`, which refuses damage because a training row must be right, playback goes on
as a player would: packets that do not decode are passed over and the picture before them stays.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av.error
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from mmssl.data.container import (
    can_seek,
    clock_start,
    media_errors,
    open_media,
    orientation,
    picture_stream,
    pixel_aspect,
    rounding,
    shown_size,
    sound_stream,
    tick,
)
from mmssl.data.decode.picture import Painter, centred_box, cut
from mmssl.data.decode.sound import GAP, ZEROS, mono, resample_at
from mmssl.data.decode.stamps import FrameClock
from mmssl.types import InputError, MediaError, Wave

PREROLL = 1.0  # seconds before `start` at which reading sound begins
DRIFT = 0.001  # seconds by which the count of samples may stray from the stamps before it is set right
HEARD = 1.0  # seconds over which stamps must agree on that
AGREE = 0.002  # seconds within which they then lie; some old files stamp Vorbis up to 20 ms late, now and then


def play_frames(
    path: Path, *, fps: float, size: int | tuple[int, int] | None = None, start: float = 0.0, end: float | None = None
) -> Iterator[tuple[float, np.ndarray]]:
    """The pictures shown at `start`, `start + 1/fps`, ... before `end`, as (seconds, uint8 (height, width, 3) RGB).

    Args:
        path: a video file.
        fps: pictures a second to give, whatever the file has.
        size: side of a square or (height, width), cut like `Frames` with no box; None: as displayed. A film whose pictures change
            their size is given in that of its first, all through.
        start: seconds.
        end: seconds; None, or past the end: as long as the picture lasts.

    Raises:
        MediaError: no picture, or none of it decodes.
        InputError: fps is not above 0.
    """
    if not fps > 0:
        raise InputError(f"fps must be above 0, got {fps}")
    with open_media(path) as container:
        stream = picture_stream(container)
        if stream is None:
            raise MediaError(f"{path}: has no picture that can be decoded")
        last_pixels: tuple[VideoFrame, np.ndarray] | None = None
        painter, aspect = Painter(), pixel_aspect(stream)
        for time, frame in _frames_at(container, stream, fps=fps, start=start, end=end):
            if last_pixels is None or last_pixels[0] is not frame:
                with media_errors(path, f"its picture at {time:.3f} s cannot be converted"):
                    last_pixels = frame, _paint(frame, painter, aspect, size)
                    size = size or last_pixels[1].shape[:2]
            yield time, last_pixels[1].copy()
        if last_pixels is None:
            raise MediaError(f"{path}: no picture can be decoded from {start} s on")


def _paint(frame: VideoFrame, painter: Painter, aspect: Fraction, size: int | tuple[int, int] | None) -> np.ndarray:
    width, height = shown_size(frame, aspect)
    wanted = (height, width) if size is None else (size, size) if isinstance(size, int) else size
    turns, mirrored = orientation(frame)
    return cut(painter.rgb(frame), box=centred_box((width, height), wanted), size=wanted, turns=turns, mirrored=mirrored)


def _frames_at(
    container: InputContainer, stream: VideoStream, *, fps: float, start: float, end: float | None
) -> Iterator[tuple[float, VideoFrame]]:
    stream.codec_context.thread_type = "AUTO"  # one file at a time: latency counts here
    slack, count, shown = rounding(stream), 0, None
    stop = float("inf") if end is None else end
    ends = 0.0
    for at, frame in _decode_from(container, stream, start):
        while shown is not None and start + count / fps + slack < at and start + count / fps < stop:
            yield start + count / fps, shown
            count += 1
        if shown is None and at > start + slack:  # before the first frame: the first frame
            shown = frame
            while start + count / fps + slack < at and start + count / fps < stop:
                yield start + count / fps, shown
                count += 1
        shown = frame
        spacing = float(1 / stream.average_rate) if stream.average_rate else 0.0
        ends = at + max(float(frame.duration or 0) * tick(stream), spacing)
        if start + count / fps >= stop:
            return
    while shown is not None and start + count / fps < min(stop, ends):
        yield start + count / fps, shown
        count += 1


def _decode_from(container: InputContainer, stream: VideoStream, start: float) -> Iterator[tuple[float, VideoFrame]]:
    """Frames with their times, ascending, from a key frame at or before `start`."""
    clock, frame_clock = clock_start(container), FrameClock()
    back = 0.0
    while True:
        begins_at_start = _seek(container, stream, start - back, clock)
        first, frames = True, _decoded(container, stream)
        frame_clock.restart()
        too_late = False
        last = -float("inf")
        for frame in frames:
            stamp = frame_clock.stamp(frame)
            if stamp is None:
                continue
            at = stamp * tick(stream) - clock
            if first and not begins_at_start and at > start:
                too_late = True
                break
            first = False
            if at > last:
                last = at
                yield at, frame
        if not too_late:
            return
        back = back * 3 + 2.0


def _seek(container: InputContainer, stream: VideoStream | AudioStream, time: float, clock: float) -> bool:
    """Go to a time; True where that is the start of the file."""
    begins = stream.start_time * tick(stream) - clock if stream.start_time is not None else 0.0
    if time > max(0.0, begins) + 1.0 and can_seek(container):
        container.seek(int((time + clock) / tick(stream)), stream=stream)
        return False
    if time + 1e9 < 0 or container.start_time is None:
        container.seek(0)
    else:
        container.seek(container.start_time)
    return True


def _decoded(container: InputContainer, stream: VideoStream) -> Iterator[VideoFrame]:
    try:
        for packet in container.demux(stream):
            if packet.size == 0 and packet.pts is not None:
                continue  # Theora's "same picture again"
            try:
                yield from packet.decode()
            except (av.error.InvalidDataError, av.error.EOFError):
                continue
    except av.error.InvalidDataError:
        return  # the container itself is damaged from here on


def play_wave(path: Path, *, rate: int, chunk: float, start: float = 0.0, end: float | None = None) -> Iterator[np.ndarray]:
    """The sound from `start` on, in pieces of `chunk` seconds: float32 mono in [-1, 1], the last piece shorter.

    Zeros stand where the sound has not begun and where its stamps leave a gap.

    Args:
        path: a file with sound.
        rate: samples a second to give.
        chunk: seconds.
        start: seconds.
        end: seconds; None, or past the end: as long as the sound lasts.

    Raises:
        MediaError: no sound, or none of it decodes.
        InputError: rate or chunk is not above 0.
    """
    if rate <= 0 or round(chunk * rate) < 1:
        raise InputError(f"rate and chunk must give at least one sample, got {rate} a second and {chunk} s")
    with open_media(path) as container:
        stream = sound_stream(container)
        if stream is None:
            raise MediaError(f"{path}: has no sound that can be decoded")
        stream.codec_context.thread_type = "NONE"
        tape = _Tape(container, stream, start)
        step, given = round(chunk * rate), 0
        while True:
            length = step if end is None else min(step, round((end - start) * rate) - given)
            if length <= 0:
                return
            wave = Wave(start + given / rate, length / rate, rate)
            piece = tape.read(wave)
            if len(piece) == 0:
                break
            yield piece
            given += len(piece)
            if len(piece) < length:
                break
        if tape.rate == 0:
            raise MediaError(f"{path}: no sound can be decoded from {start} s on")


def read_wave(path: Path, rate: int) -> np.ndarray:
    """The whole sound track from time 0 on, float32 mono (samples,). Sample `i` sounds at `i / rate` seconds.

    Raises:
        MediaError: no sound, or none of it decodes.
    """
    pieces = list(play_wave(path, rate=rate, chunk=30.0))
    return np.concatenate(pieces) if pieces else np.zeros(0, np.float32)


class _Tape:
    """Decoded samples on the clock, of which only those still needed are kept."""

    def __init__(self, container: InputContainer, stream: AudioStream, start: float) -> None:
        self.rate = 0
        self._tick, self._clock = tick(stream), clock_start(container)
        _seek(container, stream, start - PREROLL, self._clock)
        self._frames = self._decoded(container, stream)
        self._parts: deque[np.ndarray] = deque()
        self._first = 0  # position of the first kept sample, counted from time 0
        self._last = 0  # position after the last one
        self._strays: deque[tuple[int, float]] = deque()  # (position, what the stamp says beyond it)
        self._frame_clock = FrameClock()
        self._ended = False

    def read(self, wave: Wave) -> np.ndarray:
        """The samples of a window, fewer at the end of the sound. Windows must come in ascending order."""
        if self.rate == 0 and not self._more():
            return np.zeros(0, np.float32)
        reach = (wave.start + wave.seconds) * self.rate + 4 * ZEROS * max(1, self.rate / wave.rate) + self.rate
        while self._last < reach and self._more():
            pass
        self._forget(round((wave.start - 1.0) * self.rate))
        length = round(wave.seconds * wave.rate)
        if self._ended:
            length = min(length, int((self._last / self.rate - wave.start) * wave.rate))
        if length <= 0:
            return np.zeros(0, np.float32)
        return resample_at(self._line, Wave(wave.start, length / wave.rate, wave.rate), self.rate)

    def _line(self, first: int, length: int) -> tuple[np.ndarray, int]:
        out = np.zeros(length, np.float32)
        at = self._first
        for part in self._parts:
            low, high = max(at, first), min(at + len(part), first + length)
            if low < high:
                out[low - first : high - first] = part[low - at : high - at]
            at += len(part)
        return out, self._last

    def _forget(self, before: int) -> None:
        while self._parts and self._first + len(self._parts[0]) < before:
            self._first += len(self._parts.popleft())

    def _more(self) -> bool:
        frame = next(self._frames, None)
        if frame is None:
            self._ended = True
            return False
        stamp = self._frame_clock.stamp(frame)
        samples = mono(frame)
        if self.rate == 0:
            self.rate = frame.sample_rate
            self._first = self._last = round((stamp * self._tick - self._clock) * self.rate) if stamp is not None else 0
        elif frame.sample_rate != self.rate:
            return True  # a second rate within one stream: not played
        if stamp is not None:
            samples = self._set_right((stamp * self._tick - self._clock) * self.rate - self._last, samples)
        self._parts.append(samples)
        self._last += len(samples)
        return True

    def _set_right(self, stray: float, samples: np.ndarray) -> np.ndarray:
        """Follow the stamps: at once over a gap, and where the count of samples strays from them for long."""
        self._strays.append((self._last, stray))
        while self._strays[-1][0] - self._strays[0][0] > HEARD * self.rate:
            self._strays.popleft()
        strays = [value for _, value in self._strays]
        typical = float(np.median(strays))
        heard = self._strays[-1][0] - self._strays[0][0] > 0.8 * HEARD * self.rate
        steady = heard and abs(typical) > DRIFT * self.rate and max(strays) - min(strays) < AGREE * self.rate
        if abs(stray) <= GAP * self.rate and not steady:
            return samples
        self._strays.clear()
        by = round(typical if steady else stray)
        if by < 0:
            return samples[min(len(samples), -by) :]
        if by > 3600 * self.rate:
            return samples  # a stamp an hour ahead is damage, not silence
        return np.concatenate([np.zeros(by, np.float32), samples])

    def _decoded(self, container: InputContainer, stream: AudioStream) -> Iterator[AudioFrame]:
        try:
            for packet in container.demux(stream):
                try:
                    yield from packet.decode()
                except (av.error.InvalidDataError, av.error.EOFError):
                    continue
        except av.error.InvalidDataError:
            return
