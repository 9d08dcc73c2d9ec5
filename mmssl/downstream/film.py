"""What must be known of a film before it is played, and the sizes at which it is seen and shown."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from mmssl.data.container import clock_start, display_size, open_media, picture_stream, sound_stream
from mmssl.data.playback import play_frames
from mmssl.downstream.pairing import Pairing
from mmssl.types import InputError, MediaError

LARGEST, SMALLEST = 1280, 640  # pixels: bounds of the drawn picture's longer side
FASTEST = 30.0  # pictures a second written


@dataclass(frozen=True, slots=True)
class Film:
    """A file with picture and sound; times are seconds of the presentation clock."""

    path: Path
    width: int  # as displayed
    height: int
    fps: float
    begin: float  # when the first picture is shown
    seconds: float  # 0.0 where the file does not say
    channels: int = 1  # of sound

    @property
    def shown_fps(self) -> float:
        """Pictures a second of the heatmap film: the film's own, up to `FASTEST`."""
        return min(self.fps, FASTEST) if self.fps > 0 else FASTEST


def look_at(path: Path) -> Film:
    """Open a film and read what must be known.

    Raises:
        InputError: in one sentence, why it cannot be localized.
    """
    if not path.exists():
        raise InputError(f"there is no file {path}")
    if path.is_dir():
        raise InputError(f"{path} is a folder; give one film")
    try:
        with open_media(path) as container:
            picture, sound = picture_stream(container), sound_stream(container)
            if picture is None:
                raise InputError(f"{path} has no picture; localization looks for the source of a sound in the picture")
            if sound is None:
                raise InputError(f"{path} has no sound; there is nothing to localize")
            rate = picture.average_rate or picture.guessed_rate
            width, height = display_size(picture)
            begin = float((picture.start_time or 0) * (picture.time_base or 0)) - clock_start(container)
            seconds = (container.duration or 0) / 1_000_000
            channels = int(sound.codec_context.channels or 1)
            return Film(path, width, height, float(rate) if rate else 0.0, max(0.0, begin), seconds, channels)
    except MediaError as error:
        raise InputError(f"{path} cannot be read as a film ({error})") from error


def seen_size(pairing: Pairing, film: Film) -> tuple[int, int]:
    """(height, width) at which the encoder sees the whole picture: its own short side, the film's aspect ratio.

    Encoders that insist on their own square (transformers with a table of positions) get the picture squeezed into it.
    """
    short = min(pairing.shape.size)
    # Beyond 4:1 the picture is squeezed: a strip of a hundred to one would not fit into memory.
    aspect = min(4.0, max(0.25, film.width / film.height))
    wanted = (short, round(short * aspect)) if aspect >= 1 else (round(short / aspect), short)
    if wanted == pairing.shape.size:
        return wanted
    frames = 1 if pairing.modality == "frame" else pairing.shape.frames
    try:
        pairing.encode(pairing.shape.video, torch.zeros(1, frames, 3, *wanted, dtype=torch.uint8))
    except (ValueError, RuntimeError):  # how encoders and torch refuse a shape
        return pairing.shape.size
    return wanted


def shown_size(film: Film) -> tuple[int, int]:
    """(height, width) of the drawn picture: the film's own, enlarged or reduced to a watchable size, even."""
    longer = max(film.width, film.height)
    scale = LARGEST / longer if longer > LARGEST else -(-SMALLEST // longer) if longer < SMALLEST else 1.0
    height, width = (max(2, 2 * round(side * scale / 2)) for side in (film.height, film.width))
    return height, width


def play_whole(film: Film, *, fps: float, size: tuple[int, int]) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    """The whole picture, squeezed to `size` (height, width) where its aspect ratio is another, `fps` times a second.

    `play_frames` would cut the largest box of the size's own aspect ratio: what lies beside it would never be looked at.

    Raises:
        MediaError: as `play_frames`.
    """
    scale = max(size[0] / film.height, size[1] / film.width)
    whole = (max(1, round(film.height * scale)), max(1, round(film.width * scale)))
    # A pixel more or less is rounding: cut rather than resized twice.
    near = all(abs(a - b) <= 1 for a, b in zip(whole, size, strict=True))
    for moment, picture in play_frames(film.path, fps=fps, size=size if near else whole):
        if near:
            yield moment, picture
        else:
            yield moment, np.asarray(cv2.resize(picture, (size[1], size[0]), interpolation=cv2.INTER_AREA), dtype=np.uint8)
