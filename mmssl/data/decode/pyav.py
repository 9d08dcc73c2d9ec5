"""The default backend: PyAV, picture and sound of a file in one pass, as few packets decoded as the answers need.

Requests are sorted in time and joined into clusters; between clusters further apart than `FAR` the file is sought again. A first,
fast attempt at a cluster begins at the last key frame and skips what nobody wants. When it meets anything that it cannot vouch
for (no key frame where one should be, stamps missing or twice, a packet that does not decode, a frame marked corrupt), the cluster is
tried again from earlier on with everything decoded; what still cannot be vouched for is a `MediaError`.

One thread: a loader's workers divide the cores between them, and threads inside a decoder cost more CPU than they save.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import av.error
import numpy as np
import torch
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.packet import Packet
from av.stream import Discard
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from torch import Tensor

from mmssl.data.container import (
    can_seek,
    clock_start,
    media_errors,
    open_media,
    orientation,
    picture_stream,
    pixel_aspect,
    shown_size,
    sound_stream,
    tick,
)
from mmssl.data.decode.frames import FrameFinder
from mmssl.data.decode.picture import Canvas, Painter
from mmssl.data.decode.sound import WARM, SoundFinder
from mmssl.data.decode.stamps import DoubtError
from mmssl.types import Frames, MediaError, Request, Wave

FAR = 2.0  # seconds between two requests beyond which a new seek is cheaper than reading on
NEAR_START = 0.5  # seconds from the start of a file within which it is read from there, without a seek
NEAR_START_UNINDEXED = 3.0  # the same where a seek means searching the file for time stamps
LOOK_BACK = (5.0, 30.0)  # seconds by which the careful attempts begin earlier
LEAD = 5  # frames by which a seek aims earlier: some containers go by decoding stamps, which run ahead of presentation
FROM_START = 300.0  # seconds from the start within which the last careful attempt decodes from there

# Containers with an index, whose packets are whole frames with stamps.
INDEXED = ("mov", "matroska", "webm", "mp4")
# Decoders whose NONREF was seen to change no other frame (tests/test_decode_frames.py).
SKIPPING = ("h264", "hevc", "mpeg4", "mpeg1video", "mpeg2video", "vp8", "vp9", "mjpeg", "ffv1")


class Paints(Protocol):
    """Makes numbers of frames, as `Painter` makes pixels."""

    def rgb(self, frame: VideoFrame) -> np.ndarray:
        """The numbers of a frame as coded."""
        ...


class Draws(Protocol):
    """Takes what a `Paints` makes, as `Canvas` takes pixels."""

    def draw(self, time: float, pixels: np.ndarray, *, shown: tuple[int, int], turns: int = 0, mirrored: bool = False) -> None:
        """Fill every place that asked for `time`."""
        ...


@dataclass(slots=True)
class Cluster:
    """Requests close to one another in time: answered by one seek."""

    times: list[float] = field(default_factory=list)
    waves: list[Wave] = field(default_factory=list)

    @property
    def start(self) -> float:
        """Where reading has to begin, before key frames are thought of."""
        return min([*self.times[:1], *(wave.start - WARM for wave in self.waves[:1])])


class PyavAnswerer:
    """One opened file.

    Args:
        path: named in errors.
        container: opened.
        canvas: takes the pixels.
        painter: makes them.
    """

    def __init__(self, path: Path, container: InputContainer, canvas: Draws, painter: Paints) -> None:
        self.path, self.container, self.canvas, self.painter = path, container, canvas, painter
        self.clock = clock_start(container)
        self.video = picture_stream(container)
        self.audio = sound_stream(container)
        self.indexed = any(name in INDEXED for name in container.format.name.split(","))
        self.skips = self.video is not None and self.video.codec_context.name in SKIPPING and self.indexed
        self.seekable = can_seek(container)
        self.untouched = True  # nothing was read yet
        for stream in (self.video, self.audio):
            if stream is not None:
                stream.codec_context.thread_type = "NONE"
                stream.codec_context.thread_count = 1

    def collect(self, times: Sequence[float], waves: Sequence[Wave]) -> dict[Wave, np.ndarray]:
        """Give the frame of each time, return the samples of each wave. Raises `MediaError`."""
        if times and self.video is None:
            raise MediaError(
                f"{self.path}: {len(times)} frames asked for, it has no picture that can be decoded ({self._what()})"
            )
        if waves and self.audio is None:
            raise MediaError(f"{self.path}: sound asked for, it has none that can be decoded ({self._what()})")
        sounds: dict[Wave, np.ndarray] = {}
        for cluster in clusters_of(times, waves):
            sounds |= self._cluster(cluster)
        return sounds

    def _what(self) -> str:
        found = [f"{s.type} {s.codec_context.name if s.codec_context else 'of an unknown codec'}" for s in self.container.streams]
        return "streams: " + (", ".join(found) or "none")

    def _cluster(self, cluster: Cluster) -> dict[Wave, np.ndarray]:
        doubt: DoubtError | None = None
        for fast, look_back in self._attempts(cluster):
            frames: dict[float, VideoFrame] = {}
            try:
                sounds = self._attempt(cluster, frames, fast=fast, look_back=look_back)
            except DoubtError as error:
                doubt = error
                continue
            self._draw(frames)
            return sounds
        raise MediaError(f"{self.path}: {asked(cluster)}: {doubt}") from doubt

    def _draw(self, frames: dict[float, VideoFrame]) -> None:
        assert self.video is not None or not frames
        aspect = pixel_aspect(self.video) if self.video is not None else Fraction(1)
        last: VideoFrame | None = None
        pixels = np.empty(0)
        with media_errors(self.path, "its picture cannot be converted"):
            for time, frame in frames.items():
                if frame is not last:
                    pixels, last = self.painter.rgb(frame), frame
                turns, mirrored = orientation(frame)
                self.canvas.draw(time, pixels, shown=shown_size(frame, aspect), turns=turns, mirrored=mirrored)

    def _attempts(self, cluster: Cluster) -> Iterator[tuple[bool, float]]:
        """(fast?, how many seconds before the cluster to begin); infinity: at the start of the file."""
        yield True, 0.0
        if self.seekable:
            yield True, 2.0
        for seconds in LOOK_BACK:
            if cluster.start > seconds and self.seekable:
                yield False, seconds
        if cluster.start < FROM_START or not self.seekable:
            yield False, float("inf")

    def _attempt(
        self, cluster: Cluster, frames: dict[float, VideoFrame], *, fast: bool, look_back: float
    ) -> dict[Wave, np.ndarray]:
        from_start = self._go_to(cluster, look_back)
        picture = sound = None
        if cluster.times and self.video is not None:
            picture = FrameFinder(
                self.video,
                clock=self.clock,
                times=cluster.times,
                give=frames.__setitem__,
                skip=fast and self.skips,
                restart=fast,
                from_start=from_start,
            )
        if cluster.waves and self.audio is not None:
            sound = SoundFinder(self.audio, clock=self.clock, windows=cluster.waves, from_start=from_start)
        self._read(picture, sound)
        return {wave: sound.window(wave) for wave in cluster.waves} if sound else {}

    def _read(self, picture: FrameFinder | None, sound: SoundFinder | None) -> None:
        """Demultiplex until both have what they need."""
        wanted: list[VideoStream | AudioStream] = []
        if picture is not None and self.video is not None:
            wanted.append(self.video)
        if sound is not None and self.audio is not None:
            wanted.append(self.audio)
        for stream in self.container.streams:  # the demultiplexer need not even read what nobody wants
            stream.discard = Discard.default if stream in wanted else Discard.all
        try:
            for packet in self.container.demux(wanted):
                if packet.size == 0:
                    continue  # PyAV's mark of the end (the finders flush by themselves), or Theora's "same picture again"
                self._hand_out(packet, picture, sound)
                if (picture is None or picture.done) and (sound is None or sound.done):
                    break
        except av.error.FFmpegError as error:
            raise DoubtError(f"{error.strerror} ({type(error).__name__})") from error
        for finder in (picture, sound):
            if finder is not None:
                finder.finish()

    def _hand_out(self, packet: Packet, picture: FrameFinder | None, sound: SoundFinder | None) -> None:
        if picture is not None and self.video is not None and packet.stream_index == self.video.index:
            picture.feed(packet)
        elif sound is not None and self.audio is not None and packet.stream_index == self.audio.index:
            sound.feed(packet)

    def _go_to(self, cluster: Cluster, look_back: float) -> bool:
        """Put the demultiplexer where the cluster's packets begin; True where that is the start of the file."""
        stream = self.video if cluster.times and self.video is not None else self.audio
        assert stream is not None
        target = cluster.start - look_back
        if stream is self.video and self.video is not None and self.video.average_rate:
            target -= min(0.5, float(LEAD / self.video.average_rate))
        begins = stream.start_time * tick(stream) - self.clock if stream.start_time is not None else 0.0
        near = NEAR_START if self.indexed else NEAR_START_UNINDEXED
        if not self.seekable or target <= max(begins, 0.0) + near:
            if not self.untouched:
                self._rewind()
            self.untouched = False
            return True
        self.untouched = False
        self.container.seek(int((target + self.clock) / tick(stream)), stream=stream)
        return False

    def _rewind(self) -> None:
        try:
            self.container.seek(min(0, self.container.start_time or 0) - 10_000_000)
        except av.error.FFmpegError:
            self.container.seek(self.container.start_time or 0)


def read(path: Path, frames: list[Frames], waves: list[Wave]) -> dict[Request, Tensor]:
    """Answer all requests with one opening of the file. Raises `MediaError`."""
    canvas, painter = Canvas(frames), Painter()
    with open_media(path) as container:
        answerer = PyavAnswerer(path, container, canvas, painter)
        sounds = answerer.collect(canvas.times, waves)
    return {**canvas.answers(), **{wave: torch.from_numpy(samples) for wave, samples in sounds.items()}}


def clusters_of(times: Sequence[float], waves: Sequence[Wave]) -> list[Cluster]:
    """Join requests that lie closer together than `FAR`."""
    spans: list[tuple[float, float, float | Wave]] = [(time, time, time) for time in sorted(set(times))]
    spans += [(wave.start - WARM, wave.start + wave.seconds, wave) for wave in dict.fromkeys(waves)]
    spans.sort(key=lambda span: span[:2])
    clusters: list[Cluster] = []
    reach = -float("inf")
    for start, end, item in spans:
        if start > reach + FAR:
            clusters.append(Cluster())
        reach = max(reach, end)
        (clusters[-1].waves if isinstance(item, Wave) else clusters[-1].times).append(item)  # type: ignore[arg-type]  # times are numbers, waves are Waves
    return clusters


def asked(cluster: Cluster) -> str:
    """A cluster in words, for errors."""
    words = []
    if cluster.times:
        words.append(f"{len(cluster.times)} frames in {cluster.times[0]:.3f}..{cluster.times[-1]:.3f} s")
    if cluster.waves:
        words.append(f"sound in {cluster.waves[0].start:.3f}..{max(w.start + w.seconds for w in cluster.waves):.3f} s")
    return " and ".join(words)
