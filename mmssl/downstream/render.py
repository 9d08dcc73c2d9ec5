"""Writing a film: pictures that we drew, the sound of the original beside them, both on the original's clock.

H.264 and AAC in MP4. Sound is decoded, laid gapless on the presentation clock (silence where the file has none) and encoded at its own
rate with at most two channels, so that a late start, a gap or an odd codec cannot shift it against the picture.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from mmssl.data.container import clock_start, open_media, sound_stream
from mmssl.types import MediaError

CLOCK = 90_000  # ticks a second of the film's picture stamps
AAC_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000)
SLACK = 0.01  # seconds by which stamps may jitter before a gap is filled or an overlap cut
BLOCK = 1024  # samples in an AAC frame
BT709 = 1  # libav's number for the colour matrix of HD video


class FilmWriter:
    """An MP4 file being written. Use as a context manager; the file is complete after the `with` block.

    Args:
        path: of the file; it is overwritten.
        size: (height, width) of the pictures; both even.
        fps: nominal pictures a second (stamps are free).
        sound: the film whose sound goes in, None for a silent film.
        begin, end: seconds of that film's clock between which its sound goes in, None for all of the rest; `begin` is the new film's 0.
        quality: constant rate factor of x264, lower is better.

    Raises:
        ValueError: an odd size (4:2:0 colour needs even ones).
        MediaError: the sound cannot be read.
    """

    def __init__(
        self,
        path: Path,
        *,
        size: tuple[int, int],
        fps: float,
        sound: Path | None = None,
        begin: float = 0.0,
        end: float | None = None,
        quality: int = 20,
    ) -> None:
        if size[0] % 2 or size[1] % 2:
            raise ValueError(f"H.264 with 4:2:0 colour needs even sizes, got {size[1]} x {size[0]}")
        self._container: OutputContainer = av.open(f"file:{path}", "w", format="mp4", options={"movflags": "+faststart"})
        rate = Fraction(fps).limit_denominator(1001)
        self._video = self._container.add_stream("libx264", rate=rate, options={"crf": str(quality), "preset": "veryfast"})
        assert isinstance(self._video, VideoStream)
        self._video.width, self._video.height, self._video.pix_fmt = size[1], size[0], "yuv420p"
        context = self._video.codec_context
        context.time_base = Fraction(1, CLOCK)
        # Untagged video is taken for BT.601 or BT.709 at the player's whim; said plainly, colours stay what was drawn.
        context.colorspace = context.color_primaries = context.color_trc = BT709
        context.color_range = 1  # limited
        self._blocks: Iterator[NDArray[np.float32]] | None = None
        self._sound: AudioStream | None = None
        self._written = 0  # samples of sound
        if sound is not None:
            rate_hz, channels = sound_format(sound)
            stream = self._container.add_stream("aac", rate=rate_hz, layout="mono" if channels == 1 else "stereo")
            assert isinstance(stream, AudioStream)
            stream.bit_rate = 96_000 * channels
            self._sound, self._blocks = stream, sound_blocks(sound, rate_hz, channels, begin=begin, end=end)

    def __enter__(self) -> FilmWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if kind is None:
                self._write_sound(until=None)
                self._container.mux(self._video.encode(None))
                if self._sound is not None:
                    self._container.mux(self._sound.encode(None))
        finally:
            self._container.close()

    def write(self, moment: float, picture: NDArray[np.uint8]) -> None:
        """Show `picture` (H, W, 3) RGB from `moment` (seconds on the original's clock, after `begin`; rising) on."""
        frame = VideoFrame.from_ndarray(picture, format="rgb24").reformat(
            format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG"
        )
        frame.pts, frame.time_base = round(moment * CLOCK), Fraction(1, CLOCK)
        self._container.mux(self._video.encode(frame))
        self._write_sound(until=moment + 0.5)

    def _write_sound(self, until: float | None) -> None:
        if self._blocks is None or self._sound is None:
            return
        rate = self._sound.codec_context.sample_rate
        while until is None or self._written < until * rate:
            block = next(self._blocks, None)
            if block is None:
                return
            frame = AudioFrame.from_ndarray(block, format="fltp", layout="mono" if len(block) == 1 else "stereo")
            frame.sample_rate, frame.pts, frame.time_base = rate, self._written, Fraction(1, rate)
            self._container.mux(self._sound.encode(frame))
            self._written += block.shape[1]


def sound_format(path: Path) -> tuple[int, int]:
    """(samples a second, channels) in which the sound of a film is written: AAC's nearest rate not below its own, 1 or 2 channels.

    Raises:
        MediaError: no sound track.
    """
    with open_media(path) as container:
        stream = sound_stream(container)
        if stream is None:
            raise MediaError(f"{path} has no sound track that can be decoded")
        rate = stream.codec_context.sample_rate or 48_000
        channels = 1 if stream.codec_context.channels == 1 else 2
    return min((r for r in AAC_RATES if r >= min(rate, 48_000)), default=48_000), channels


def sound_blocks(
    path: Path, rate: int, channels: int, *, begin: float = 0.0, end: float | None = None
) -> Iterator[NDArray[np.float32]]:
    """The sound of a film from `begin` (seconds of its clock) to `end` or its own end: gapless blocks (channels, 1024), the last one shorter.

    Silence fills a late start, gaps, and packets that cannot be decoded; what overlaps is cut.

    Raises:
        MediaError: the file cannot be opened or has no sound.
    """
    rest = np.zeros((channels, 0), dtype=np.float32)
    for piece in _between(_on_the_clock(path, rate, channels), round(begin * rate), None if end is None else round(end * rate)):
        rest = np.concatenate([rest, piece], axis=1)
        whole = rest.shape[1] - rest.shape[1] % BLOCK
        for start in range(0, whole, BLOCK):
            yield np.ascontiguousarray(rest[:, start : start + BLOCK])
        rest = rest[:, whole:]
    if rest.shape[1]:
        yield np.ascontiguousarray(rest)


def _between(pieces: Iterator[NDArray[np.float32]], first: int, last: int | None) -> Iterator[NDArray[np.float32]]:
    """Samples `first` to before `last` of a sound that comes in pieces."""
    place = 0
    for piece in pieces:
        if last is not None and place >= last:
            return
        yield piece[:, max(0, first - place) : None if last is None else last - place]
        place += piece.shape[1]


def _on_the_clock(path: Path, rate: int, channels: int) -> Iterator[NDArray[np.float32]]:
    place = 0  # samples given so far
    for moment, samples in _decoded(path, rate, channels):
        due = place if moment is None else round(moment * rate)
        if due - place > SLACK * rate:
            while place < due:  # in blocks: a sound that begins after an hour must not take an hour's memory
                gap = min(due - place, rate)
                yield np.zeros((channels, gap), dtype=np.float32)
                place += gap
        elif place - due > SLACK * rate:
            samples = samples[:, place - due :]
        yield samples
        place += samples.shape[1]


def _decoded(path: Path, rate: int, channels: int) -> Iterator[tuple[float | None, NDArray[np.float32]]]:
    layout = "mono" if channels == 1 else "stereo"
    with open_media(path) as container:
        stream = sound_stream(container)
        if stream is None:
            raise MediaError(f"{path} has no sound track that can be decoded")
        zero = clock_start(container)
        resampler, shape = AudioResampler(format="fltp", layout=layout, rate=rate), None
        for packet in container.demux(stream):
            try:
                frames = [frame for frame in packet.decode() if isinstance(frame, AudioFrame)]
            except FFmpegError:
                continue  # the gap that it leaves is filled with silence
            for frame in frames:
                now = (frame.sample_rate, frame.layout.name, frame.format.name)
                if shape not in (None, now):  # rate or channels change in the middle of a broadcast
                    resampler = AudioResampler(format="fltp", layout=layout, rate=rate)
                shape = now
                for out in resampler.resample(frame):
                    moment = None if out.pts is None or out.time_base is None else float(out.pts * out.time_base) - zero
                    yield moment, out.to_ndarray().astype(np.float32, copy=False)
        for out in resampler.resample(None) if shape else []:
            yield None, out.to_ndarray().astype(np.float32, copy=False)
