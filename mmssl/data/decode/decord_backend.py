"""decord behind `answer`, for comparison and for corpora that were prepared for it. The default backend is better in every respect.

Known faults of decord 0.6.0, measured (docs of performance) or read in its issue tracker:

- Films with an edit list (stream-copied cuts): wrong frames (20 of 40), because edit lists are ignored.
- Sound is 17 samples late at 16 kHz (its resampler's delay; about 1.06 ms at any rate). Corrected here by `LATE` seconds.
- Sound costs time in proportion to the length of the file: it decodes all of it when it opens.
- Its clock has no container start: sound and picture that begin at different times are not kept apart. The frames' own stamps are used
  here, less the earliest of them, so pictures are right where picture begins first; a late picture is shown too early.
- Rotation metadata is applied, the pixel aspect ratio is not known to it, full range and matrices are swscale's defaults.
- Damaged frames are replaced by neighbours, silently; reading past the true end can hang in native code (dmlc/decord#373).
- Hangs after a fork when the parent has decoded before (use `spawn`).
"""

from __future__ import annotations

from bisect import bisect_right
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mmssl.data.decode.picture import Canvas
from mmssl.types import Frames, InputError, MediaError, Request, Wave

TAIL = 0.1  # seconds past the end, as in the default backend
LATE = 17 / 16000  # seconds by which the resampled sound lags
ROUNDING = 0.0005  # seconds


def read(path: Path, frames: list[Frames], waves: list[Wave]) -> dict[Request, Tensor]:
    """Answer all requests; see `mmssl.data.decode.answer`. Raises `MediaError`; `InputError` where decord is not installed."""
    try:
        import decord
    except ImportError as error:
        raise InputError(
            "backend decord is not installed (wheels: Linux x86_64 only); `pip install decord`, or use backend pyav"
        ) from error
    answers: dict[Request, Tensor] = {}
    try:
        if frames:
            answers |= _pictures(decord, path, frames)
        for wave in waves:
            answers[wave] = torch.from_numpy(_window(decord, path, wave))
    except (decord.DECORDError, RuntimeError, IndexError) as error:
        raise MediaError(f"{path}: decord: {str(error).strip().splitlines()[-1][:200]}") from error
    return answers


def _pictures(decord, path: Path, frames: list[Frames]) -> dict[Frames, Tensor]:
    canvas = Canvas(frames)
    reader = decord.VideoReader(str(path), ctx=decord.cpu(0), num_threads=1)
    stamps = reader.get_frame_timestamp(np.arange(len(reader)))  # (frames, 2) start and end, seconds
    begins = (stamps[:, 0] - min(0.0, float(stamps[:, 0].min()))).tolist()
    end = float(stamps[-1, 1])
    if canvas.times[-1] > end + TAIL:
        raise MediaError(f"{path}: {len(canvas.times)} frames up to {canvas.times[-1]:.3f} s: the picture ends at {end:.3f} s")
    places = [max(0, bisect_right(begins, time + ROUNDING) - 1) for time in canvas.times]
    pixels = reader.get_batch(places).asnumpy()
    for time, picture in zip(canvas.times, pixels, strict=True):
        canvas.draw(time, picture, shown=(picture.shape[1], picture.shape[0]))
    return canvas.answers()


def _window(decord, path: Path, wave: Wave) -> np.ndarray:
    reader = decord.AudioReader(str(path), ctx=decord.cpu(0), sample_rate=wave.rate, mono=True)
    samples = reader[:].asnumpy()[0]
    length = round(wave.seconds * wave.rate)
    first = round((wave.start + LATE) * wave.rate)
    out = np.zeros(length, np.float32)
    low, high = max(0, first), min(len(samples), first + length)
    if first + length > len(samples) + round(0.05 * wave.rate):
        raise MediaError(f"{path}: sound up to {wave.start + wave.seconds:.3f} s: it ends at {len(samples) / wave.rate:.3f} s")
    out[low - first : high - first] = samples[low:high]
    return np.clip(out, -1.0, 1.0)
