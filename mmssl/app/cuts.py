"""Stretches of films that browsers do not play, as short H.264 and AAC films; made when they are asked for, the newest kept."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path

import numpy as np

from mmssl.data.container import display_size, open_media, picture_stream, sound_stream
from mmssl.data.decode import answer
from mmssl.data.playback import play_frames
from mmssl.downstream.render import FilmWriter
from mmssl.downstream.spectrogram import spectrogram_image
from mmssl.files import make_aside
from mmssl.types import MediaError, Source, Span, Wave

LONGEST = 30.0  # seconds of a stretch
SIDE = 640  # pixels of its longer side, at most
FPS = 30.0
HEARD = 16_000  # Hz


class Cuts:
    """Short films in `folder`, the newest `keep` of them; one is made at a time."""

    def __init__(self, folder: Path, *, keep: int = 48) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._keep = folder, keep
        self._made: dict[str, Path] = {}  # oldest first
        self._lock = threading.Lock()

    def get(self, path: Path, span: Span) -> Path:
        """The stretch of a film as a file of its own, whose second 0 is where the stretch begins. No longer than `LONGEST`.

        Raises:
            MediaError: it cannot be read.
        """
        span = Span(span.start, min(span.end, span.start + LONGEST))
        name = hashlib.sha256(f"{path} {span.start:.3f} {span.end:.3f}".encode()).hexdigest()[:24]
        with self._lock:
            made = self._made.pop(name, None) or self._folder / f"{name}.mp4"
            if not made.is_file():
                make_aside(made, lambda part: write_cut(path, span, part))
            self._made[name] = made
            for old in list(self._made)[: -self._keep]:
                self._made.pop(old).unlink(missing_ok=True)
            return made


def write_cut(path: Path, span: Span, out: Path) -> None:
    """Write a stretch of a film; of a recording, its spectrogram and the sound.

    Raises:
        MediaError: it cannot be read.
    """
    with open_media(path) as container:
        picture, sound = picture_stream(container), sound_stream(container)
        size = None if picture is None else _fitting(*display_size(picture))
        rate = FPS if picture is None else float(picture.average_rate or picture.guessed_rate or FPS)
    fps = min(FPS, rate)
    heard = None if sound is None else path
    if size is None:
        still = _spectrogram(path, span)
        with FilmWriter(out, size=still.shape[:2], fps=1.0, sound=heard, begin=span.start, end=span.end) as film:
            for second in range(max(1, round(span.seconds))):
                film.write(float(second), still)
        return
    with FilmWriter(out, size=size, fps=fps, sound=heard, begin=span.start, end=span.end) as film:
        for moment, frame in play_frames(path, fps=fps, size=size, start=span.start, end=span.end):
            film.write(max(0.0, moment - span.start), frame)


def _fitting(width: int, height: int) -> tuple[int, int]:
    """(height, width), even, no side longer than `SIDE`."""
    scale = min(1.0, SIDE / max(width, height))
    return max(2, 2 * round(height * scale / 2)), max(2, 2 * round(width * scale / 2))


def _spectrogram(path: Path, span: Span) -> np.ndarray:
    request = Wave(span.start, span.seconds, HEARD)
    wave = answer(Source("sound", path), [request])[request].numpy()
    if not len(wave):
        raise MediaError(f"{path.name} has no sound there")
    return np.array(spectrogram_image(wave, 180, 320))
