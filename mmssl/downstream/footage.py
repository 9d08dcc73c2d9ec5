"""What is tracked: a film, or a folder of pictures in order, played frame by frame in constant memory."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from mmssl.data.container import clock_start, display_size, open_media, picture_stream, sound_stream
from mmssl.data.playback import play_frames
from mmssl.types import InputError, MediaError

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})
FOLDER_FPS = 24.0  # DAVIS's
FASTEST = 60.0  # frames a second taken from a film that has more, unless they are asked for
UNKNOWN_FPS = 25.0  # of a film that does not say


@dataclass(frozen=True, slots=True)
class Footage:
    """What must be known before frames are played; see `open_footage`."""

    path: Path
    size: tuple[int, int]  # height, width as displayed
    fps: float  # frames a second that are played
    begin: float  # seconds at which the first frame is shown
    end: float  # seconds; 0.0 where the film does not say
    sound: bool
    pictures: tuple[Path, ...] = ()  # of a folder

    def count(self, start: float, end: float | None) -> int | None:
        """About how many frames there are from `start` to `end` seconds; None where the film does not say."""
        last = min((moment for moment in (end, self.end) if moment), default=None)
        return None if last is None else max(1, round((last - max(start, self.begin)) * self.fps))

    def play(self, start: float = 0.0, end: float | None = None) -> Iterator[tuple[float, NDArray[np.uint8]]]:
        """The frames from `start` to before `end`, as (seconds, (H, W, 3) RGB).

        Raises:
            MediaError: a picture cannot be read, or has another size than the first.
        """
        start = max(start, self.begin)
        if not self.pictures:
            yield from play_frames(self.path, fps=self.fps, size=self.size, start=start, end=end)
            return
        for number, path in enumerate(self.pictures):
            moment = number / self.fps
            if moment + 1e-6 < start:
                continue
            if end is not None and moment >= end:
                return
            yield moment, _read(path, self.size)


def open_footage(path: Path, *, fps: float | None = None) -> Footage:
    """Look at a film or a folder of pictures.

    Args:
        path: any film with a picture; or a folder, whose pictures are taken in the order of their names (2 before 10).
        fps: frames a second to take from a film, by default its own, at most `FASTEST`; of a folder, the rate at which its pictures were taken, by default
            `FOLDER_FPS`.

    Raises:
        InputError: in one sentence, why it cannot be played.
    """
    if fps is not None and not 0 < fps <= 1000:
        raise InputError(f"--fps is {fps:g}; give a number of frames a second above 0 and up to 1000")
    if not path.exists():
        raise InputError(f"there is no file or folder {path}")
    return _open_folder(path, fps or FOLDER_FPS) if path.is_dir() else _open_film(path, fps)


def _open_film(path: Path, fps: float | None) -> Footage:
    try:
        with open_media(path) as container:
            stream = picture_stream(container)
            if stream is None:
                raise InputError(f"{path} has no picture; there is nothing to track")
            rate = stream.average_rate or stream.guessed_rate
            width, height = display_size(stream)
            begin = float((stream.start_time or 0) * (stream.time_base or 0)) - clock_start(container)
            return Footage(
                path,
                (height, width),
                fps or min(FASTEST, float(rate) if rate else UNKNOWN_FPS),
                max(0.0, begin),
                (container.duration or 0) / 1_000_000,
                sound_stream(container) is not None,
            )
    except MediaError as error:
        raise InputError(f"{path} cannot be read as a film ({error})") from error


def _open_folder(path: Path, fps: float) -> Footage:
    pictures = tuple(sorted((p for p in path.iterdir() if p.suffix.lower() in SUFFIXES), key=_in_order))
    if not pictures:
        raise InputError(f"{path} holds no pictures; give a film, or a folder of frames as {', '.join(sorted(SUFFIXES))}")
    try:
        first = _read(pictures[0], None)
    except MediaError as error:
        raise InputError(str(error)) from error
    return Footage(path, (first.shape[0], first.shape[1]), fps, 0.0, len(pictures) / fps, False, pictures)


def _in_order(path: Path) -> list[tuple[int, str]]:
    """Numbers in names count as numbers: frame 2 comes before frame 10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", path.name)]


def _read(path: Path, size: tuple[int, int] | None) -> NDArray[np.uint8]:
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if picture is None:
        raise MediaError(f"{path} is no picture that can be read")
    if size is not None and picture.shape[:2] != size:
        raise MediaError(f"{path} is {picture.shape[1]} x {picture.shape[0]}, the first picture is {size[1]} x {size[0]}")
    return np.ascontiguousarray(picture[..., ::-1], dtype=np.uint8)
