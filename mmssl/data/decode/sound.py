"""Exact windows of sound: packets to a line of samples at known times, resampled without delay.

Mono is the plain mean of the channels. Samples are placed by their stamps: a stretch of contiguous frames is anchored at
the median of what its stamps say (a stamp in Matroska is rounded to a millisecond, their median is not), and a jump of more
than `GAP` begins a new stretch. Encoder delay is taken off by libav (skip-samples side data), the decoder starts `WARM`
seconds early, and the resampler (torchaudio's windowed sinc) is fed whole periods, so that its output begins at the very
sample asked for, rounded to the nearest sample of the source.

Before the sound begins there are zeros, as a player would have it. Past its end by more than `TAIL`, and where more than `HOLE` is
missing in between: an error.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import cached_property, lru_cache

import av.error
import numpy as np
import torch
from av.audio.fifo import AudioFifo
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.packet import Packet
from torchaudio.transforms import Resample

from mmssl.data.container import tick
from mmssl.data.decode.stamps import DoubtError, FrameClock
from mmssl.types import Wave

WARM = 0.15  # seconds decoded ahead of a window: Opus asks for 80 ms, an MP3 bit reservoir spans up to nine frames
AFTER = 0.02  # seconds decoded behind a window, for the resampler's filter
GAP = 0.05  # seconds by which stamps may disagree with the count of samples before there is a gap
SCATTER = 0.005  # seconds; rounded stamps lie within 0.001
HOLE = 0.1  # seconds without sound within a window, although sound came before
TAIL = 0.05  # seconds that may be missing at the end of the sound (filled with zeros)
ZEROS = 16  # half width of the resampler's filter, in zero crossings

Line = Callable[[int, int], tuple[np.ndarray, int]]


def mono(frame: AudioFrame) -> np.ndarray:
    """Mean of the channels of a decoded frame, float32 (samples,), full scale 1."""
    samples = frame.to_ndarray()
    if not frame.format.is_planar:
        samples = samples.reshape(-1, frame.layout.nb_channels).T
    if samples.dtype == np.uint8:
        samples = (samples.astype(np.float32) - 128) / 128
    elif samples.dtype.kind == "i":
        samples = samples.astype(np.float32) / 2.0 ** (8 * samples.itemsize - 1)
    if samples.shape[0] == 1:
        return samples[0].astype(np.float32, copy=False)
    if samples.shape[0] == 2 and samples.dtype == np.float32:  # what `mean` gives too, at a tenth of its time
        return (samples[0] + samples[1]) * np.float32(0.5)
    return samples.mean(axis=0, dtype=np.float32)


@lru_cache(maxsize=16)
def _resampler(source: int, target: int) -> Resample:
    return Resample(source, target, lowpass_filter_width=ZEROS)


class Stretch:
    """Contiguous frames of sound of one rate, sample format and channel layout."""

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self.length = 0  # samples
        self._fifo = AudioFifo()  # joins frames in C: turned into arrays one by one they cost more than decoding them
        self._offsets: list[float] = []  # where each stamp puts the first sample

    def add(self, frame: AudioFrame, time: float | None) -> bool:
        """Append a frame; False where its stamp or its format says that it does not follow."""
        offset = None if time is None else time * self.rate - self.length
        if offset is not None and self._offsets and abs(offset - self._offsets[0]) > GAP * self.rate:
            return False
        frame.pts = None  # placed by `offset`; the queue would insist on its own count
        try:
            self._fifo.write(frame)
        except ValueError:  # another format or layout
            return False
        if offset is not None:
            self._offsets.append(offset)
        self.length += frame.samples
        return True

    @cached_property
    def samples(self) -> np.ndarray:
        """All samples, float32 (length,); nothing can be added afterwards."""
        joined = self._fifo.read()
        return np.empty(0, np.float32) if joined is None else mono(joined)

    @property
    def first(self) -> int:
        """Position of the first sample, counted from time 0 at this rate."""
        # Some old files stamp Vorbis up to 20 ms late, now and then: where stamps scatter, the early ones are right.
        offsets = sorted(self._offsets)
        scatter = offsets[-1] - offsets[0] > SCATTER * self.rate
        return round(offsets[len(offsets) // (10 if scatter else 2)])


class SoundFinder:
    """Takes the packets of one sound stream from one seek on, and gives the samples of each window.

    Args:
        stream: opened, its decoder fresh or flushed.
        clock: `clock_start` of its container.
        windows: ascending by start.
        from_start: the packets begin where the file begins.
    """

    def __init__(self, stream: AudioStream, *, clock: float, windows: Sequence[Wave], from_start: bool) -> None:
        self._codec = stream.codec_context
        self._tick, self._clock = tick(stream), clock
        self._begins = stream.start_time * self._tick - clock if stream.start_time is not None else None
        self._windows = list(windows)
        self._from_start = from_start
        self._stretches: list[Stretch] = []
        self._damage: list[tuple[float, str]] = []
        self._until = max(w.start + w.seconds for w in windows)
        self._frame_clock = FrameClock()
        self._running = False  # the last packet went into the decoder
        self._seen = False
        self.last_read = -math.inf
        self.done = False

    def feed(self, packet: Packet) -> None:
        """Take the next packet. Raises `DoubtError`."""
        if self.done:
            return
        stamp = packet.pts if packet.pts is not None else packet.dts
        if stamp is None and not self._running and not self._from_start:
            return
        time = stamp * self._tick - self._clock if stamp is not None else self.last_read
        seconds = (packet.duration or 0) * self._tick
        self._check_first(time)
        self.last_read = max(self.last_read, time)
        if time > self._until + AFTER + GAP:
            self._drain()
            self.done = True
            return
        if not self._wanted(time, seconds):
            self._drain()
            return
        self._decode(packet, time)

    def finish(self) -> None:
        """No more packets."""
        self._drain()
        self.done = True

    def _check_first(self, time: float) -> None:
        if self._seen:
            return
        self._seen = True
        wanted = self._windows[0].start - WARM / 2
        if not self._from_start and time > wanted and (self._begins is None or time > self._begins + GAP):
            raise DoubtError("reading began too late for the sound")

    def _wanted(self, time: float, seconds: float) -> bool:
        for window in self._windows:  # no generator: this is asked of each packet
            if window.start - WARM - seconds <= time <= window.start + window.seconds + AFTER:
                return True
        return time == -math.inf

    def _decode(self, packet: Packet, time: float) -> None:
        if not self._running:
            self._frame_clock.restart()
        try:
            frames = packet.decode()
        except av.error.InvalidDataError as error:
            self._damage.append((time, f"a packet stamped {time:.3f} s cannot be decoded ({error.strerror})"))
            return
        for frame in frames:
            self._take(frame)
        self._running = True

    def _drain(self) -> None:
        """Take what the decoder holds back; the next packet begins a new stretch."""
        if not self._running:
            return
        try:
            for frame in self._codec.decode(None):
                self._take(frame)
        except av.error.EOFError:
            pass
        self._codec.flush_buffers()
        self._running = False

    def _take(self, frame: AudioFrame) -> None:
        stamp = self._frame_clock.stamp(frame)
        time = stamp * self._tick - self._clock if stamp is not None else None
        if frame.is_corrupt and time is not None:
            self._damage.append((time, f"the sound at {time:.3f} s is damaged"))
        follows = self._running and bool(self._stretches) and self._stretches[-1].rate == frame.sample_rate
        if follows and self._stretches[-1].add(frame, time):
            return
        if time is None:
            if not self._from_start:
                return
            time = self._begins or 0.0
        stretch = Stretch(frame.sample_rate)
        stretch.add(frame, time)
        self._stretches.append(stretch)

    def window(self, wave: Wave) -> np.ndarray:
        """The samples of a window, float32 (round(rate * seconds),). Raises `DoubtError`."""
        for time, reason in self._damage:
            if wave.start - 0.05 <= time <= wave.start + wave.seconds:
                raise DoubtError(reason)
        rates = {s.rate for s in self._stretches}
        if len(rates) > 1:
            raise DoubtError(f"the sample rate changes within it: {sorted(rates)}")
        begins = self._begins if self._begins is not None else min((s.first / s.rate for s in self._stretches), default=math.inf)
        if begins < math.inf and wave.start + wave.seconds <= begins + TAIL and not self._stretches:
            return np.zeros(round(wave.rate * wave.seconds), np.float32)
        if not rates:
            raise DoubtError("there is no sound at that time")
        samples = resample_at(self._line, wave, rates.pop())
        self._check_holes(wave, begins)
        return samples

    def _check_holes(self, wave: Wave, begins: float) -> None:
        """Raise where sound that should be there is not: packets lost, or stamps that jump."""
        at = max(wave.start, begins)
        for start, end in sorted((s.first / s.rate, (s.first + s.length) / s.rate) for s in self._stretches):
            if start > at + HOLE and at < wave.start + wave.seconds - HOLE:
                raise DoubtError(f"no sound is stored from {at:.3f} to {start:.3f} s")
            at = max(at, end)

    def _line(self, first: int, length: int) -> tuple[np.ndarray, int]:
        """Samples `first .. first + length`, zeros where there are none; and the position after the last sample there is."""
        out = np.zeros(length, np.float32)
        end = -(2**62)
        for stretch in self._stretches:
            at = stretch.first
            end = max(end, at + stretch.length)
            low, high = max(at, first), min(at + stretch.length, first + length)
            if low < high:
                out[low - first : high - first] = stretch.samples[low - at : high - at]
        return out, end


def resample_at(line: Line, wave: Wave, rate: int) -> np.ndarray:
    """Cut a window out of a line of samples and bring it to the rate asked for. Raises `DoubtError` past the line's end.

    Args:
        line: (first, length) -> (samples, position after the last sample that there is).
        wave: the window.
        rate: of the line.
    """
    wanted = round(wave.rate * wave.seconds)
    start = round(wave.start * rate)
    needed = math.ceil(wanted * rate / wave.rate)
    period, out_period = _ratio(rate, wave)
    margin = 0
    if rate != wave.rate:  # whole periods on the left, so that a whole number of output samples is cut off again
        reach = (ZEROS + 1) * max(rate, wave.rate) / wave.rate
        margin = math.ceil(reach / period) * period
    samples, end = line(start - margin, needed + 2 * margin)
    if start + needed - end > TAIL * rate:
        raise DoubtError(f"the sound ends at {end / rate:.3f} s")
    if rate != wave.rate:
        skip = margin // period * out_period
        samples = _resampler(period, out_period)(torch.from_numpy(samples)).numpy()[skip:]
    return np.clip(samples[:wanted], -1.0, 1.0)


def _ratio(rate: int, wave: Wave) -> tuple[int, int]:
    """Source and output samples in one period. Rates without a small common ratio get one that drifts < 0.1 ms over the window."""
    exact = Fraction(rate, wave.rate)
    for limit in (1000, 4000, 16000):  # output samples a period: the size of the filter bank
        near = exact.limit_denominator(limit)
        if abs(near / exact - 1) * wave.seconds < 1e-4:
            return near.numerator, near.denominator
    return exact.numerator, exact.denominator
