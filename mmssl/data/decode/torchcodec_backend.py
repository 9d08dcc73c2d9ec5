"""torchcodec behind `answer`, in exact mode only: its approximate mode gave 39 wrong frames of 40 on films of variable frame rate.

It needs FFmpeg's shared libraries on the system. Differences from the default backend:

- Its clock is that of each stream's own stamps; the container's start is read by PyAV, a third opening of the file.
- Exact mode scans the whole file when it opens; unwanted frames are all decoded. About level with the default backend without its
  skipping, 1.1 to 1.7 times its CPU time with it (docs/results/speed.md).
- Two opened decoders, so two passes over the file when picture and sound are both asked for.
- It does not apply the pixel aspect ratio; the geometry here takes it from its metadata.
- Damaged frames are not reported.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmssl.data.container import clock_start, open_media
from mmssl.data.decode.picture import Canvas
from mmssl.types import Frames, InputError, MediaError, Request, Wave

TAIL = 0.1  # seconds past the end of the picture, as in the default backend
ROUNDING = 0.0005  # seconds
NOT_LOADED = (
    "backend torchcodec cannot be loaded; `pip install 'mmssl[torchcodec]'` and FFmpeg's shared libraries, or use backend pyav"
)


def read(path: Path, frames: list[Frames], waves: list[Wave]) -> dict[Request, Tensor]:
    """Answer all requests; see `mmssl.data.decode.answer`. Raises `MediaError`; `InputError` where torchcodec cannot be loaded."""
    try:
        decoders = importlib.import_module("torchcodec.decoders")  # an extra
    except (ImportError, RuntimeError, OSError) as error:
        raise InputError(NOT_LOADED) from error
    answers: dict[Request, Tensor] = {}
    try:
        start = _clock(path)
        if frames:
            decoder = decoders.VideoDecoder(str(path), seek_mode="exact", dimension_order="NHWC", num_ffmpeg_threads=1)
            answers |= _pictures(path, decoder, frames, start)
        for wave in waves:
            answers[wave] = _window(path, decoders.AudioDecoder(str(path), sample_rate=wave.rate, num_channels=None), wave, start)
    except (RuntimeError, ValueError, IndexError) as error:
        if "libtorchcodec" in str(error):  # newer ones look for FFmpeg's libraries here and not on import: no fault of the film
            raise InputError(NOT_LOADED) from error
        raise MediaError(f"{path}: torchcodec: {str(error).strip().splitlines()[0][:200]}") from error
    return answers


def _clock(path: Path) -> float:
    with open_media(path) as container:
        return clock_start(container)


def _pictures(path: Path, decoder: Any, frames: list[Frames], clock: float) -> dict[Frames, Tensor]:
    canvas = Canvas(frames)
    begin, end = float(decoder.metadata.begin_stream_seconds), float(decoder.metadata.end_stream_seconds)
    if canvas.times[-1] + clock > end + TAIL:
        raise MediaError(
            f"{path}: {len(canvas.times)} frames up to {canvas.times[-1]:.3f} s: the picture ends at {end - clock:.3f} s"
        )
    seconds = [min(max(time + clock + ROUNDING, begin), end - ROUNDING) for time in canvas.times]
    pixels = decoder.get_frames_played_at(seconds=seconds).data.numpy()
    aspect = float(decoder.metadata.pixel_aspect_ratio or 1)
    for time, picture in zip(canvas.times, pixels, strict=True):
        canvas.draw(time, picture, shown=(max(1, round(picture.shape[1] * aspect)), picture.shape[0]))
    return canvas.answers()


def _window(path: Path, decoder: Any, wave: Wave, clock: float) -> Tensor:
    length = round(wave.seconds * wave.rate)
    begins = float(decoder.metadata.begin_stream_seconds_from_header or 0.0) - clock
    first = max(wave.start, begins)
    out = np.zeros(length, np.float32)
    if first < wave.start + wave.seconds:
        got = decoder.get_samples_played_in_range(first + clock, wave.start + wave.seconds + clock)
        samples = got.data.mean(dim=0).numpy()
        at = round((got.pts_seconds - clock - wave.start) * wave.rate)
        low = max(0, at)
        samples = samples[low - at :][: length - low]
        if length - low - len(samples) > 0.05 * wave.rate:
            raise MediaError(f"{path}: sound up to {wave.start + wave.seconds:.3f} s: it ends earlier")
        out[low : low + len(samples)] = samples
    return torch.from_numpy(np.clip(out, -1.0, 1.0))
