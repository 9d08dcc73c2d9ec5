"""Test films made with PyAV whose truth is known: the frame's number is painted into it as blocks, a click sounds as it flashes.

A number is 12 bits in two rows of six blocks of 16 x 16 pixels, white for 1, with the bits' complement in the two rows below as a
check. Blocks survive any codec at any sensible quality, scaling and chroma subsampling.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from av.audio.stream import AudioStream
from av.video.stream import VideoStream

BLOCK = 16
WIDTH, HEIGHT = 6 * BLOCK, 4 * BLOCK
BITS = 12


def painted(number: int) -> np.ndarray:
    """uint8 (HEIGHT, WIDTH, 3), the number in black and white."""
    bits = np.array([number >> i & 1 for i in range(BITS)], np.uint8).reshape(2, 6)
    blocks = np.concatenate([bits, 1 - bits]) * 255
    return np.repeat(np.kron(blocks, np.ones((BLOCK, BLOCK), np.uint8))[..., None], 3, axis=2)


def number_in(pixels: np.ndarray) -> int:
    """The number in a picture of `painted` at any size, (H, W, 3). -1 where the check fails."""
    height, width = pixels.shape[:2]
    ys = ((np.arange(4) + 0.5) * height / 4).astype(int)
    xs = ((np.arange(6) + 0.5) * width / 6).astype(int)
    bits = pixels[np.ix_(ys, xs)].mean(axis=2) > 127
    if not np.array_equal(bits[:2], ~bits[2:]):
        return -1
    return int(sum(1 << i for i, bit in enumerate(bits[:2].ravel()) if bit))


def numbers_in(answer_tchw) -> list[int]:
    """Numbers of the frames of an answer, a tensor (T, 3, H, W)."""
    return [number_in(frame) for frame in answer_tchw.permute(0, 2, 3, 1).numpy()]


def make_film(
    path: Path,
    *,
    frames: int = 100,
    rate: Fraction | int = 25,
    codec: str = "libx264",
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    pts: Sequence[int] | None = None,
    time_base: Fraction | None = None,
    pixels: str = "yuv420p",
    aspect: Fraction | None = None,
    turn: int = 0,
    first: Fraction = Fraction(0),
    full_range: bool = False,
) -> list[float]:
    """Write a film of `frames` numbered pictures; their times, from the file's own zero stamp.

    Args:
        path: the suffix decides the container.
        frames: how many.
        rate: frames a second.
        codec: libav's encoder.
        options: of the encoder.
        container_options: of the muxer.
        pts: presentation stamps in `time_base` ticks, for variable rates.
        time_base: of the stamps; 1 / rate if None.
        pixels: pixel format.
        aspect: of a pixel.
        turn: display rotation in degrees.
        first: seconds added to all stamps.
        full_range: mark and encode as full range.
    """
    base = time_base or Fraction(1) / Fraction(rate)
    with av.open(str(path), "w", options=container_options or {}) as out:
        stream = out.add_stream(codec, rate=Fraction(rate), options=options or {})
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, pixels
        stream.codec_context.time_base = base
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        if full_range:
            stream.codec_context.color_range = 2
        if turn:
            stream.set_display_rotation(turn)
        stamps = [int(p + first / base) for p in (pts or range(frames))]
        for number, stamp in enumerate(stamps):
            frame = av.VideoFrame.from_ndarray(painted(number), format="rgb24")
            frame = frame.reformat(format=pixels, dst_color_range=2 if full_range else None)
            frame.pts, frame.time_base = stamp, base
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return [float(stamp * base) for stamp in stamps]


FLASH_FRAMES = 3


def make_flash_and_click(
    path: Path,
    *,
    video: str,
    audio: str,
    events: Sequence[float],
    seconds: float = 6.0,
    rate: int = 44100,
    fps: int = 25,
    video_from: float = 0.0,
    audio_from: float = 0.0,
    layout: str = "stereo",
    sample_format: str | None = None,
    options: dict[str, str] | None = None,
    sound_options: dict[str, str] | None = None,
) -> None:
    """A black film that is white for `FLASH_FRAMES` frames from each event on, while 30 ms of tone sound from the same moment.

    Events must lie on frame times. `video_from` and `audio_from` are when the streams begin.
    """
    with av.open(str(path), "w") as out:
        picture = out.add_stream(video, rate=fps, options=options or {})
        sound = out.add_stream(audio, rate=rate, layout=layout, options=sound_options or {})
        assert isinstance(picture, VideoStream) and isinstance(sound, AudioStream)
        picture.width, picture.height, picture.pix_fmt = 64, 64, "yuv420p"
        packets = _film(picture, events, seconds, fps, video_from) + _track(sound, events, seconds, rate, audio_from, layout)
        packets.sort(key=lambda packet: float((packet.dts or 0) * packet.time_base))
        for packet in packets:
            out.mux(packet)


def _film(stream: VideoStream, events: Sequence[float], seconds: float, fps: int, begins: float) -> list[av.Packet]:
    packets: list[av.Packet] = []
    for number in range(round(begins * fps), round(seconds * fps)):
        time = number / fps
        white = any(event - 1e-6 <= time < event + FLASH_FRAMES / fps - 1e-6 for event in events)
        frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 255 if white else 0, np.uint8), format="rgb24")
        frame = frame.reformat(format="yuv420p")
        frame.pts, frame.time_base = number, Fraction(1, fps)
        packets += stream.encode(frame)
    return packets + stream.encode(None)


def _track(
    stream: AudioStream, events: Sequence[float], seconds: float, rate: int, begins: float, layout: str
) -> list[av.Packet]:
    time = np.arange(round(begins * rate), round(seconds * rate)) / rate
    samples = np.zeros(len(time), np.float32)
    for event in events:
        during = (time >= event) & (time < event + 0.03)
        samples[during] = 0.8 * np.sin(2 * np.pi * 2000 * (time[during] - event))
    channels = len(av.AudioLayout(layout).channels)
    block = stream.codec_context.frame_size or 1024
    resampler = av.AudioResampler(format=stream.codec_context.format, layout=layout, rate=rate, frame_size=block)
    packets: list[av.Packet] = []
    for low in range(0, len(samples), 1024):
        part = np.tile(samples[low : low + 1024], (channels, 1))
        frame = av.AudioFrame.from_ndarray(part, format="fltp", layout=layout)
        frame.sample_rate, frame.time_base, frame.pts = rate, Fraction(1, rate), round(begins * rate) + low
        for ready in resampler.resample(frame):
            packets += stream.encode(ready)
    for ready in resampler.resample(None):
        packets += stream.encode(ready)
    return packets + stream.encode(None)


def stream_copy(source: Path, target: Path, *, start: float, container_options: dict[str, str] | None = None) -> None:
    """Cut a film without decoding, as `ffmpeg -ss start -c copy` does: from the key frame before `start`, hidden by an edit list."""
    with av.open(str(source)) as film, av.open(str(target), "w", options=container_options or {}) as out:
        stream = film.streams.video[0]
        base = stream.time_base
        assert base is not None
        copy = out.add_stream_from_template(stream)
        offset = int(start / base)
        film.seek(offset, stream=stream)
        for packet in film.demux(stream):
            if packet.dts is None or packet.pts is None:
                continue
            packet.pts, packet.dts, packet.stream = packet.pts - offset, packet.dts - offset, copy
            out.mux(packet)
