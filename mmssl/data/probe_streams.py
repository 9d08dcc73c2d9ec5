"""What is learnt about one stream, packet by packet: the picture's span, size and rate; the sound's span and loudness."""

from __future__ import annotations

import math
from typing import Self

import av
import av.error
import numpy as np
from av import Packet
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from mmssl.data.container import BROKEN, LONGEST_SEARCH, pixel_aspect, rounding, shown_size
from mmssl.data.probe_motion import MotionMeter
from mmssl.types import LOUDNESS_HOP, Span

FLOOR_DB = -120.0  # the level of digital silence
LONGEST = 48 * 3600.0  # seconds; a time stamp beyond it is taken for damage
LARGEST_PICTURE = 1 << 27  # pixels; a damaged header can claim any size
ASSUMED_FPS = 25.0  # where neither the header nor any time stamp says
TAIL_PACKETS = 300  # how many packets after the last key frame are decoded, at most, to see where a damaged picture ends
CHUNK_SECONDS = 1.0
CONTIGUOUS = 0.02  # seconds: sound whose time stamp differs by less continues what came before (Matroska rounds to milliseconds)
TRIAL_SECONDS = 1.0


class PictureProbe:
    """Decodes the first picture (all of them to measure motion), and reads the time stamps of all of them."""

    def __init__(self, stream: VideoStream, clock_start: float, *, motion: bool = False) -> None:
        self.stream = stream
        self.notes: list[str] = []
        self.damaged = False
        self.skipped = False  # the middle of the file was not read: packets cannot be counted
        self.span: Span | None = None
        self.size = (0, 0)
        self.fps = 0.0
        self._clock_start = clock_start
        self._first: float | None = None
        self._starts: list[int] = []  # pts of shown packets
        self._end = -math.inf
        self._last_key: int | None = None
        self._searched = 0
        self._meter = MotionMeter() if motion else None
        stream.codec_context.thread_count = 1

    @classmethod
    def of(cls, stream: VideoStream | None, clock_start: float, *, motion: bool = False) -> Self | None:
        """A probe of a stream, or None of none."""
        return None if stream is None else cls(stream, clock_start, motion=motion)

    @property
    def decided(self) -> bool:
        """Whether a first picture was found, or sought long enough."""
        return self._first is not None or self._searched > LONGEST_SEARCH

    @property
    def motion(self) -> list[float]:
        """See `MotionMeter`; empty where it was not measured, or there is no picture."""
        return self._meter.levels(self.span.end) if self._meter is not None and self.span is not None else []

    def take(self, packet: Packet) -> None:
        """Take the next packet of the stream."""
        if not self.decided or (self._meter is not None and self._first is not None):
            self._search(packet)
        if packet.is_discard:
            return  # it lies outside of the edit list
        self.damaged |= packet.is_corrupt
        pts = packet.pts if packet.pts is not None else packet.dts
        if pts is None:
            return  # the empty packet at the end. Theora has empty ones with times, too: they show the last picture again
        start = self._time(pts)
        if not -LONGEST < start < LONGEST:
            self.damaged = True
            return
        self._starts.append(pts)
        self._end = max(self._end, start + float((packet.duration or 0) * packet.time_base))
        if packet.is_keyframe:
            self._last_key = pts

    def finish(self, container: InputContainer) -> None:
        """Conclude span, size and rate. `container` is moved only where the stream seems damaged."""
        if self._first is None or not self._starts:
            self.span = None
            return
        starts = np.unique(np.array(self._starts, dtype=np.int64))
        last = self._time(int(starts[-1]))
        first = max(0.0, self._first)
        self.fps = self._rate(starts)
        if self.fps <= 0:  # a single picture, and a header that does not say
            self.fps = 1.0 / (self._end - last) if self._end > last else ASSUMED_FPS
        end = self._end if self._end > last else last + 1.0 / self.fps
        if self.damaged:
            end = self._end_of_tail(container, end)
        self.span = Span(first, end) if end > first else None

    def _search(self, packet: Packet) -> None:
        if packet.size == 0 and packet.pts is not None:
            return  # nothing to decode; PyAV would take it for the end of the stream
        self._searched += 1
        if self.stream.codec_context.width * self.stream.codec_context.height > LARGEST_PICTURE:
            return
        try:
            frames = packet.decode()
        except BROKEN:
            return  # a stream may begin with packets that need an earlier key frame
        for frame in frames:
            if isinstance(frame, VideoFrame) and frame.pts is not None and frame.width and frame.height:
                time = self._time(frame.pts)
                if self._first is None:
                    self._first = time
                    self.size = shown_size(frame, pixel_aspect(self.stream))
                if self._meter is None:
                    return
                if -LONGEST < time < LONGEST:
                    self._meter.add(time, frame, rounding(self.stream))

    def _rate(self, starts: np.ndarray) -> float:
        """Frames a second: the header's, where the stamps agree with it within 2 %; else frames counted over time."""
        header = float(self.stream.average_rate or 0)
        span = self._time(int(starts[-1])) - self._time(int(starts[0]))
        if self.skipped or len(starts) < 2 or span <= 0:
            return header
        counted = (len(starts) - 1) / span
        return header if abs(counted - header) <= 0.02 * header else counted

    def _end_of_tail(self, container: InputContainer, claimed: float) -> float:
        """Where the last picture that can be decoded ends, tried from the last key frame on."""
        if self._last_key is None:
            return claimed
        end, count = -math.inf, 0
        try:
            container.seek(self._last_key, stream=self.stream)
            for packet in container.demux(self.stream):
                count += 1
                if count > TAIL_PACKETS:
                    return claimed
                for frame in _decode(packet):
                    if isinstance(frame, VideoFrame) and frame.pts is not None:
                        end = max(end, self._time(frame.pts) + self._duration(frame))
        except av.error.FFmpegError:
            pass  # the damage that this looks for
        if end > -math.inf:
            return min(claimed, end)
        self.notes.append("damaged: the end of the picture cannot be decoded")
        return self._time(self._last_key)

    def _duration(self, frame: VideoFrame) -> float:
        return float(frame.duration * frame.time_base) if frame.duration and frame.time_base else 1.0 / self.fps

    def _time(self, pts: int) -> float:
        return float(pts * self.stream.time_base) - self._clock_start if self.stream.time_base else 0.0


class SoundProbe:
    """Decodes the sound (all of it, or a trial) and measures how loud it is every `LOUDNESS_HOP` seconds."""

    def __init__(self, stream: AudioStream, clock_start: float, *, measure: bool) -> None:
        self.stream = stream
        self.notes: list[str] = []
        self.damaged = False
        self.skipped = False
        self.span: Span | None = None
        self._clock_start = clock_start
        self._measure = measure
        self._meter = LoudnessMeter()
        self._first = math.inf
        self._end = -math.inf  # of what was decoded
        self._packets_end = -math.inf
        self._good = self._bad = 0
        self._heard = 0.0  # seconds
        self._mono: av.AudioResampler | None = None
        self._format: tuple[object, ...] = ()

    @classmethod
    def of(cls, stream: AudioStream | None, clock_start: float, *, measure: bool) -> Self | None:
        """A probe of a stream, or None of none."""
        return None if stream is None else cls(stream, clock_start, measure=measure)

    @property
    def decided(self) -> bool:
        """Whether enough was decoded to trust the stream, or enough was tried."""
        return self._heard >= TRIAL_SECONDS or self._bad > LONGEST_SEARCH

    @property
    def levels(self) -> list[float]:
        """RMS in dBFS of each hop from 0.0; empty where it was not measured."""
        return self._meter.levels() if self._measure else []

    def take(self, packet: Packet) -> None:
        """Take the next packet of the stream."""
        if packet.size and packet.pts is not None:
            start = float(packet.pts * packet.time_base) - self._clock_start
            if -LONGEST < start < LONGEST:
                self._packets_end = max(self._packets_end, start + float((packet.duration or 0) * packet.time_base))
        if not self._measure and self.decided:
            return
        if packet.size == 0 and packet.pts is not None:
            return
        try:
            frames = packet.decode()
        except BROKEN:
            self._bad += 1
            return
        for frame in frames:
            if isinstance(frame, AudioFrame) and frame.samples and frame.sample_rate:
                self._hear(frame)

    def finish(self) -> None:
        """Conclude the span. None where fewer packets could be decoded than not."""
        self._meter.flush()
        if self._good == 0 or self._good < self._bad:
            self.notes.append("the sound cannot be decoded")
            return
        if self._bad:
            self.notes.append("damaged: some of the sound cannot be decoded")
        end = self._end if self._measure else max(self._end, self._packets_end)
        first = max(0.0, self._first)
        if end > first:
            self.span = Span(first, end)
            if self._measure and self._heard < 0.5 * (end - first):
                self.notes.append("damaged: the sound has gaps longer than what is heard")
        else:
            self.notes.append("the sound cannot be decoded")

    def _hear(self, frame: AudioFrame) -> None:
        expected = max(self._end, 0.0)
        time = expected
        if frame.pts is not None and frame.time_base:
            time = float(frame.pts * frame.time_base) - self._clock_start
        if not -LONGEST < time < LONGEST:
            self._bad += 1
            return
        self._good += 1
        seconds = frame.samples / frame.sample_rate
        self._heard += seconds
        self._first, self._end = min(self._first, time), max(self._end, time + seconds)
        if self._measure:
            self._meter.add(time, self._to_mono(frame), frame.sample_rate)

    def _to_mono(self, frame: AudioFrame) -> np.ndarray:
        """The mix that `Wave` requests hear, at the stream's own rate."""
        form = (frame.format.name, frame.layout.name, frame.sample_rate)
        if self._mono is None or form != self._format:  # a broadcast may change from stereo to 5.1 on its way
            self._mono, self._format = av.AudioResampler(format="flt", layout="mono", rate=frame.sample_rate), form
        parts = [part.to_ndarray().reshape(-1) for part in self._mono.resample(frame)]
        return np.concatenate(parts) if len(parts) != 1 else parts[0]


class LoudnessMeter:
    """RMS level for each `LOUDNESS_HOP` seconds from time 0, of samples that come with their times."""

    def __init__(self) -> None:
        self._squares = np.zeros(64)
        self._counts = np.zeros(64)
        self._parts: list[np.ndarray] = []
        self._start = 0.0
        self._samples = 0
        self._rate = 1
        self._used = 0

    def add(self, time: float, samples: np.ndarray, rate: int) -> None:
        """Take samples (n,) that begin at `time` seconds."""
        expected = self._start + self._samples / self._rate
        if rate != self._rate or abs(time - expected) > CONTIGUOUS or self._samples >= CHUNK_SECONDS * rate:
            self.flush()
        if not self._parts:
            self._start, self._rate = time, rate
        self._parts.append(samples)
        self._samples += len(samples)

    def flush(self) -> None:
        """Count what is held back."""
        if not self._parts:
            return
        wave = np.concatenate(self._parts).astype(np.float64)
        skipped = max(0, math.ceil(-self._start * self._rate))  # before 0: a codec's run-in
        wave, start = wave[skipped:], self._start + skipped / self._rate
        self._parts, self._samples = [], 0
        if not len(wave):
            return
        # Sample i lies in hop floor((start + i / rate) / hop); 1e-6 keeps 0.3 / 0.1 in hop 3.
        hops = ((start + np.arange(len(wave)) / self._rate) / LOUDNESS_HOP + 1e-6).astype(np.int64)
        low, high = int(hops[0]), int(hops[-1]) + 1
        self._grow(high)
        np.nan_to_num(wave, copy=False, nan=0.0, posinf=1.0, neginf=-1.0)
        self._squares[low:high] += np.bincount(hops - low, weights=np.square(wave), minlength=high - low)
        self._counts[low:high] += np.bincount(hops - low, minlength=high - low)

    def levels(self) -> list[float]:
        """dBFS of each hop, to two decimals; `FLOOR_DB` where there is no sound."""
        squares, counts = self._squares[: self._used], self._counts[: self._used]
        power = squares / np.maximum(counts, 1)
        return [round(max(FLOOR_DB, 10 * math.log10(value)), 2) if value > 0 else FLOOR_DB for value in power.tolist()]

    def _grow(self, size: int) -> None:
        self._used = max(self._used, size)
        if size > len(self._squares):
            more = max(size, 2 * len(self._squares)) - len(self._squares)
            self._squares = np.concatenate((self._squares, np.zeros(more)))
            self._counts = np.concatenate((self._counts, np.zeros(more)))


def _decode(packet: Packet) -> list[object]:
    try:
        return list(packet.decode())
    except BROKEN:
        return []
