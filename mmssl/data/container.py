"""What the index, the decoders and the players agree on about an opened file: its streams, its clock, its geometry.

The clock: a stamp `pts` of a stream stands for `pts * time_base - clock_start(container)` seconds. Zero is therefore the
container's start time, the moment that `ffmpeg -ss 0` names: the first stamp of the stream that begins first. Sound and
picture share this clock, and either may begin later than 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import av.error
import av.logging
import numpy as np
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.sidedata.sidedata import SideDataContainer
from av.sidedata.sidedata import Type as SideDataType
from av.stream import Disposition, Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from mmssl.data.shards import find_member
from mmssl.types import MediaError

# What a decoder may throw at damaged data. PyAV's own classes cover libav; the rest comes from its Python layer: a title
# that is no text (UnicodeDecodeError is a ValueError), a parameter that makes no sense, a picture too large to allocate.
BROKEN = (av.error.FFmpegError, ValueError, MemoryError, OverflowError, IndexError)

LONGEST_SEARCH = 400  # packets read in search of a first picture before a stream counts as without one

# Damage is told by MediaError, once, with the file's name; libav's own lines on stderr would come from every worker.
av.logging.set_level(None)


@contextmanager
def media_errors(path: Path, asked: str) -> Iterator[None]:
    """Turn what libav throws into a `MediaError` that names the file, what was asked of it, and libav's own words."""
    try:
        yield
    except av.error.FFmpegError as error:
        raise MediaError(f"{path}: {asked}: {error.strerror or 'unknown error'} ({type(error).__name__})") from error
    except BROKEN as error:
        raise MediaError(f"{path}: {asked}: {error} ({type(error).__name__})") from error


@contextmanager
def open_media(path: Path) -> Iterator[InputContainer]:
    """Open a file for reading and close it at the end.

    Only the file itself is ever read: a name that looks like an address, and a playlist that points elsewhere, are not followed. The
    path may stand for a film in a shard (`mmssl.data.shards`).

    Raises:
        MediaError: the file is missing, unreadable, or no container that libav knows. What libav throws inside the `with`
            block becomes a `MediaError` too; nothing else does.
    """
    try:
        with media_errors(path, "cannot be opened"):
            address, protocols = _address(path)
            container = av.open(address, mode="r", metadata_errors="replace", options={"protocol_whitelist": protocols})
    except MediaError as error:
        if path.is_file() and path.stat().st_size == 0:
            raise MediaError(f"{path}: is empty (0 bytes)") from error
        raise
    try:
        yield container
    except av.error.FFmpegError as error:
        raise MediaError(f"{path}: cannot be read: {error.strerror or 'unknown error'} ({type(error).__name__})") from error
    finally:
        container.close()


def _address(path: Path) -> tuple[str, str]:
    """What libav calls a file or a film in a shard, and the protocols that it needs for it."""
    # "file:" keeps a name like "concat:a|b" or "data:..." from being taken for a protocol.
    member = find_member(path)
    if member is None:
        return f"file:{path}", "file"
    return f"subfile,,start,{member.offset},end,{member.offset + member.size},,:file:{member.shard}", "subfile,file"


def picture_stream(container: InputContainer) -> VideoStream | None:
    """The best video stream that this build can decode, as ffmpeg chooses it; never cover art. None where there is none."""
    best = container.streams.best("video")
    for stream in (best, *container.streams.video):
        if isinstance(stream, VideoStream) and not _is_art(stream) and _has_decoder(stream):
            return stream
    return None


def sound_stream(container: InputContainer) -> AudioStream | None:
    """The best audio stream that this build can decode, as ffmpeg chooses it. None where there is none."""
    best = container.streams.best("audio")
    for stream in (best, *container.streams.audio):
        if isinstance(stream, AudioStream) and _has_decoder(stream):
            return stream
    return None


def clock_start(container: InputContainer) -> float:
    """The stamp, in seconds, at which the presentation clock of a file reads 0.0."""
    if container.start_time is not None:
        return container.start_time / 1_000_000
    starts = [s.start_time * s.time_base for s in container.streams if s.start_time is not None and s.time_base is not None]
    return float(min(starts, default=Fraction(0)))


def can_seek(container: InputContainer) -> bool:
    """Whether stamps after a seek can be believed. MPEG program streams stamp only some frames, and libav guesses the rest wrongly
    when it begins to read in the middle; such files are read from their start."""
    return container.format.name != "mpeg"


def tick(stream: Stream) -> float:
    """Seconds between two successive time stamps of a stream."""
    return float(stream.time_base) if stream.time_base else 1e-6


def rounding(stream: Stream) -> float:
    """How far, in seconds, a time stamp may lie from the moment that it was rounded from.

    Half a tick of the stream's clock (Matroska counts whole milliseconds, so that frame 2 of a 30 fps film is stamped 67 ms,
    not 66.7), but never more than half a millisecond, and one microsecond for the container's start time. A frame counts as
    shown at `t` if it is stamped no later than `t + rounding`. No film has a picture every millisecond but by such rounding.
    """
    return min(tick(stream) / 2, 0.0005) + 1e-6


def pixel_aspect(stream: VideoStream) -> Fraction:
    """Width of a pixel over its height; 1 where the file does not say or says nonsense."""
    aspect = stream.sample_aspect_ratio
    return aspect if aspect is not None and Fraction(1, 16) <= aspect <= 16 else Fraction(1)


def shown_size(frame: VideoFrame, aspect: Fraction) -> tuple[int, int]:
    """(width, height) at which a decoded frame is shown: wide pixels widen it, then rotation metadata turns it."""
    width, height = max(1, round(frame.width * aspect)), frame.height
    return (height, width) if orientation(frame)[0] % 2 else (width, height)


def orientation(frame: VideoFrame) -> tuple[int, bool]:
    """How a decoded frame becomes the picture shown: (quarter turns counter-clockwise, after mirroring left and right or not).

    From the display matrix that the file gives with the frame; angles are taken to the nearest quarter turn.
    """
    # Not `frame.side_data`: the frame would keep that container, which keeps the frame, and megabytes of pixels would stay until Python
    # looks for cycles, which it does by counting objects, not bytes.
    matrix = SideDataContainer(frame).get(SideDataType.DISPLAYMATRIX)  # type: ignore[call-overload]  # PyAV's stub knows one key only
    if matrix is None:
        return 0, False
    a, b, _, c, d, *_ = np.frombuffer(matrix, "<i4", count=9).tolist()
    mirrored = a * d - b * c < 0
    if mirrored:
        a, c = -a, -c
    # (a, b) is where the coded x axis points to on a screen whose y axis points down.
    return round(math.degrees(math.atan2(-b, a)) / 90) % 4, mirrored


def display_size(stream: VideoStream) -> tuple[int, int]:
    """(width, height) of the picture as displayed: after pixel aspect ratio and rotation metadata.

    Decodes the first picture that it can find from the current position, then rewinds the container. Where a frame is at
    hand already, `shown_size(frame, pixel_aspect(stream))` says the same at no cost.

    Raises:
        MediaError: no picture among the first packets.
    """
    container = stream.container
    if not isinstance(container, InputContainer):
        raise TypeError(f"display_size needs a stream of an opened file, got one of {container!r}")
    path = Path(container.name.removeprefix("file:"))
    with media_errors(path, "has no picture that can be decoded"):
        try:
            for count, packet in enumerate(container.demux(stream)):
                for frame in _decode_or_none(packet):
                    return shown_size(frame, pixel_aspect(stream))
                if count > LONGEST_SEARCH:
                    break
        finally:
            container.seek(container.start_time or 0)
    raise MediaError(f"{path}: no picture in the first {LONGEST_SEARCH} packets of its video stream")


def _decode_or_none(packet: av.Packet) -> list[VideoFrame]:
    try:
        return [frame for frame in packet.decode() if isinstance(frame, VideoFrame)]
    except av.error.InvalidDataError:
        return []  # a stream may begin with packets that need an earlier key frame


def _is_art(stream: VideoStream) -> bool:
    return bool(stream.disposition & (Disposition.attached_pic | Disposition.timed_thumbnails))


def _has_decoder(stream: Stream) -> bool:
    return stream.codec_context is not None  # PyAV leaves None where libav has no decoder
