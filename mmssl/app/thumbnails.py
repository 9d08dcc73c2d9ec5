"""Small pictures for the page: a film's frame at a moment, a recording's spectrogram, as text that stands in the page itself."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
from PIL import Image

from mmssl.data.decode import answer
from mmssl.data.playback import play_frames
from mmssl.downstream.spectrogram import spectrogram_image
from mmssl.types import MediaError, Source, Span, Wave

SIDE = 400  # pixels, at most
HEARD = 16_000  # Hz that a spectrogram is made from
LONGEST = 30.0  # seconds of it


def frame_at(path: Path, moment: float) -> np.ndarray:
    """The frame (H, W, 3) shown at a moment, as displayed; the last one where the film ends before.

    Raises:
        MediaError: there is none.
    """
    for start in (moment, moment - 0.25, moment - 1.0, 0.0):
        for _, picture in play_frames(path, fps=25.0, start=max(0.0, start), end=max(0.0, start) + 0.05):
            return picture
    raise MediaError(f"{path.name} has no picture at {moment:.2f} s")


def thumbnail(path: Path, span: Span, at: float | None = None) -> str:
    """A picture of a stretch, as a `data:` address; empty where nothing can be decoded.

    Args:
        path: of the film or recording.
        span: seconds.
        at: the moment to show; None: the middle.
    """
    try:
        image = Image.fromarray(frame_at(path, (span.start + span.end) / 2 if at is None else at))
    except MediaError:
        image = _heard(path, span)
    if image is None:
        return ""
    image.thumbnail((SIDE, SIDE))
    return data_address(image)


def data_address(image: Image.Image, *, quality: int = 82) -> str:
    """A picture as text: JPEG in a `data:` address."""
    held = io.BytesIO()
    image.convert("RGB").save(held, format="JPEG", quality=quality)
    return "data:image/jpeg;base64," + base64.b64encode(held.getvalue()).decode()


def _heard(path: Path, span: Span) -> Image.Image | None:
    request = Wave(span.start, min(span.seconds, LONGEST), HEARD)
    try:
        wave = answer(Source("sound", path), [request])[request]
    except MediaError:
        return None
    return spectrogram_image(wave.numpy(), SIDE * 9 // 16, SIDE) if len(wave) else None
