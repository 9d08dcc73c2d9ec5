"""Which codecs can be decoded here, found out by decoding: a tiny clip is made in memory, read back, and compared.

A list of names would not do: builds of FFmpeg differ in what they were given, and a decoder that is listed can still fail.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import av
import numpy as np
from av.codec.codec import UnknownCodecError
from av.error import FFmpegError

Outcome = Literal["works", "listed", "fails", "absent"]
FRAMES, SIDE = 8, 64
RATE, SECONDS, TONE = 48_000, 0.5, 440.0
MAX_PICTURE_ERROR = 12.0  # grey levels, mean absolute: lossy coding of a smooth ramp stays far below, a wrong picture far above
MIN_TONE_SHARE = 0.5  # of the decoded sound's energy within 20 Hz of the tone


class Codec(NamedTuple):
    """One codec: what people call it, what FFmpeg calls its decoder and encoder, and the container for the trial."""

    name: str
    kind: Literal["picture", "sound"]
    decoder: str
    encoder: str
    container: str


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of one codec: `works` (made, read back, compared), `listed` (a decoder, but no encoder here to make a test clip
    with), `fails` (with the reason) or `absent`."""

    name: str
    kind: Literal["picture", "sound"]
    outcome: Outcome
    detail: str = ""


CODECS = (
    Codec("H.264", "picture", "h264", "libx264", "mp4"),
    Codec("HEVC", "picture", "hevc", "libx265", "mp4"),
    Codec("VP8", "picture", "vp8", "libvpx", "webm"),
    Codec("VP9", "picture", "vp9", "libvpx-vp9", "webm"),
    Codec("AV1", "picture", "libdav1d", "libsvtav1", "mp4"),
    Codec("MPEG-4", "picture", "mpeg4", "mpeg4", "mp4"),
    Codec("MPEG-2", "picture", "mpeg2video", "mpeg2video", "mpegts"),
    Codec("MPEG-1", "picture", "mpeg1video", "mpeg1video", "mpegts"),
    Codec("Motion JPEG", "picture", "mjpeg", "mjpeg", "avi"),
    Codec("Theora", "picture", "theora", "libtheora", "ogg"),
    Codec("AAC", "sound", "aac", "aac", "mp4"),
    Codec("MP3", "sound", "mp3float", "libmp3lame", "mp3"),
    Codec("MP2", "sound", "mp2float", "mp2", "mpegts"),
    Codec("Opus", "sound", "opus", "libopus", "webm"),
    Codec("Vorbis", "sound", "vorbis", "libvorbis", "ogg"),
    Codec("FLAC", "sound", "flac", "flac", "flac"),
    Codec("AC-3", "sound", "ac3", "ac3", "mpegts"),
    Codec("PCM", "sound", "pcm_s16le", "pcm_s16le", "wav"),
)


def try_codecs() -> Iterator[Trial]:
    """Try every codec of `CODECS`, one after the other; about a second in all. Never raises for a codec's sake."""
    os.environ.setdefault("SVT_LOG", "1")  # the AV1 encoder prints its banner past FFmpeg's log; 1: errors only
    for codec in CODECS:
        yield _try(codec)


def ffmpeg_version() -> str:
    """Of the FFmpeg inside PyAV."""
    avcodec = ".".join(str(part) for part in av.library_versions.get("libavcodec", ()))
    # PyAV has not always told the release; the version of libavcodec it always has.
    return f"{getattr(av, 'ffmpeg_version_info', None) or '?'} (libavcodec {avcodec}, inside av)"


def write_clip(path: Path) -> None:
    """Write one second of H.264 and AAC in MP4, 64 x 64 pixels at 25 frames a second with a tone: for trials of decoders."""
    with av.open(str(path), "w") as container:
        picture = container.add_stream("libx264", rate=25, options={"crf": "10", "preset": "ultrafast"})
        sound = container.add_stream("aac", rate=RATE, layout="mono")
        picture.width = picture.height = SIDE
        picture.pix_fmt = "yuv420p"
        for number in range(25):
            container.mux(picture.encode(av.VideoFrame.from_ndarray(_ramp(number % FRAMES), format="rgb24")))
        frame = av.AudioFrame.from_ndarray(np.tile(_tone(), 2)[None], format="fltp", layout="mono")
        frame.sample_rate = RATE
        container.mux(sound.encode(frame))
        for stream in (picture, sound):
            container.mux(stream.encode(None))


def _try(codec: Codec) -> Trial:
    if not _has(codec.decoder, "r"):
        return Trial(codec.name, codec.kind, "absent", f"this build of FFmpeg has no decoder {codec.decoder}")
    if not _has(codec.encoder, "w"):
        return Trial(codec.name, codec.kind, "listed", f"not tried: no encoder {codec.encoder} to make a clip with")
    try:
        clip = _make_picture(codec) if codec.kind == "picture" else _make_sound(codec)
    except (FFmpegError, ValueError) as error:
        return Trial(codec.name, codec.kind, "listed", f"not tried: the test clip could not be made ({error})")
    try:
        wrong = _compare_picture(clip) if codec.kind == "picture" else _compare_sound(clip)
    except (FFmpegError, ValueError) as error:
        wrong = str(error)
    return Trial(codec.name, codec.kind, "fails" if wrong else "works", wrong)


def _has(name: str, mode: Literal["r", "w"]) -> bool:
    try:
        av.Codec(name, mode)
    except UnknownCodecError:
        return False
    return True


def _ramp(number: int) -> np.ndarray:
    # A smooth picture whose brightness tells the frame's number: survives any lossy coding.
    across = np.linspace(0, 60, SIDE, dtype=np.float32)
    grey = 40 + 16 * number + np.broadcast_to(across, (SIDE, SIDE))
    return np.repeat(grey[..., None], 3, axis=2).astype(np.uint8)


def _tone() -> np.ndarray:
    moments = np.arange(round(RATE * SECONDS)) / RATE
    return (0.5 * np.sin(2 * np.pi * TONE * moments)).astype(np.float32)


def _make_picture(codec: Codec) -> bytes:
    target = io.BytesIO()
    with av.open(target, "w", format=codec.container) as container:
        stream = container.add_stream(codec.encoder, rate=25)
        assert isinstance(stream, av.VideoStream)
        stream.width = stream.height = SIDE
        stream.pix_fmt = "yuvj420p" if codec.encoder == "mjpeg" else "yuv420p"
        stream.bit_rate = 2_000_000
        if codec.encoder == "libx265":
            stream.options = {"x265-params": "log-level=none"}  # it writes to stderr by itself
        for number in range(FRAMES):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(_ramp(number), format="rgb24")))
        container.mux(stream.encode())
    return target.getvalue()


def _make_sound(codec: Codec) -> bytes:
    target = io.BytesIO()
    with av.open(target, "w", format=codec.container) as container:
        stream = container.add_stream(codec.encoder, rate=RATE)
        assert isinstance(stream, av.AudioStream)
        stream.layout = "mono"
        wanted = stream.codec_context.codec.audio_formats or [av.AudioFormat("fltp")]
        stream.format = wanted[0]
        frame = av.AudioFrame.from_ndarray(_tone()[None], format="fltp", layout="mono")
        frame.sample_rate = RATE
        stream.codec_context.open()
        convert = av.AudioResampler(
            format=wanted[0], layout="mono", rate=RATE, frame_size=stream.codec_context.frame_size or None
        )
        for piece in (*convert.resample(frame), *convert.resample(None)):
            container.mux(stream.encode(piece))
        container.mux(stream.encode())
    return target.getvalue()


def _compare_picture(clip: bytes) -> str:
    with av.open(io.BytesIO(clip), "r") as container:
        seen = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    if len(seen) != FRAMES:
        return f"{len(seen)} of {FRAMES} frames came back"
    error = max(float(np.abs(got.astype(np.float32) - _ramp(number)).mean()) for number, got in enumerate(seen))
    return "" if error <= MAX_PICTURE_ERROR else f"the picture came back wrong by {error:.0f} grey levels of 255"


def _compare_sound(clip: bytes) -> str:
    convert = av.AudioResampler(format="fltp", layout="mono", rate=RATE)
    with av.open(io.BytesIO(clip), "r") as container:
        pieces = [piece.to_ndarray()[0] for frame in container.decode(audio=0) for piece in convert.resample(frame)]
    sound = np.concatenate(pieces) if pieces else np.zeros(0, np.float32)
    if len(sound) < 0.8 * RATE * SECONDS:
        return f"{len(sound) / RATE:.2f} of {SECONDS:.2f} s came back"
    power = np.abs(np.fft.rfft(sound * np.hanning(len(sound)))) ** 2
    share = float(power[np.abs(np.fft.rfftfreq(len(sound), 1 / RATE) - TONE) < 20].sum() / (power.sum() + 1e-12))
    return "" if share >= MIN_TONE_SHARE else f"only {share:.0%} of the sound's energy is the tone that was coded"
