"""What the page takes: sizes, durations and kinds of files, looked at before any work is begun."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from mmssl.data.container import display_size, open_media, picture_stream, sound_stream
from mmssl.data.probe import probe
from mmssl.types import InputError, MediaError

MOST_PIXELS = 40_000_000  # of a still picture
MOST_FILM_PIXELS = 4096 * 2304  # of a film's frame
MB = 1_000_000


@dataclass(frozen=True, slots=True)
class Limits:
    """What one visitor may ask for."""

    max_mb: float = 200.0  # of an upload
    max_seconds: float = 120.0  # that it lasts
    max_minutes: float = 10.0  # that a job may take

    def __post_init__(self) -> None:
        for name, value, most in (
            ("max-mb", self.max_mb, 100_000.0),
            ("max-seconds", self.max_seconds, 86_400.0),
            ("max-minutes", self.max_minutes, 1_440.0),
        ):
            if not 0 < value <= most:
                raise InputError(f"--{name} is {value:g}; give a number above 0 and up to {most:g}")

    @property
    def max_bytes(self) -> int:
        """Of an upload."""
        return round(self.max_mb * MB)


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that may be worked on, and what it holds."""

    path: Path
    still: bool  # a still picture
    picture: bool
    sound: bool
    seconds: float  # 0 of a still picture


def look_at_upload(path: Path, limits: Limits, folder: Path) -> Upload:
    """Say what an uploaded file holds, from its head alone.

    Args:
        path: as the page handed it in.
        limits: that it must keep to.
        folder: that uploads lie in; nothing outside of it is looked at, whatever a request says.

    Raises:
        InputError: the file lies elsewhere, is empty, too large, too long, or neither picture, film nor sound. Named by its file name alone.
    """
    place = path.resolve()
    if not place.is_relative_to(folder.resolve()) or not place.is_file():
        raise InputError(f"{path.name} is not here any more; choose the file again")
    size = place.stat().st_size
    if size == 0:
        raise InputError(f"{path.name} is empty (0 bytes); choose another file")
    if size > limits.max_bytes:
        raise InputError(
            f"{path.name} has {size / MB:.1f} MB, this page takes up to {limits.max_mb:g}; cut the file, or start the page with a larger --max-mb"
        )
    still = _is_still(place)
    return Upload(place, True, True, False, 0.0) if still else _look_at_film(place, limits)


def in_words(error: Exception, *paths: Path) -> str:
    """What an error says, with a file's name where its place on the server would stand."""
    text = str(error)
    for path in paths:
        for place in (path, path.resolve()):
            text = text.replace(str(place), path.name)
    return text


def _is_still(path: Path) -> bool:
    """Whether Pillow takes it for a picture that stands still."""
    try:
        with Image.open(path) as image:
            width, height = image.size
            if width * height > MOST_PIXELS:
                raise InputError(
                    f"{path.name} is {width} x {height} pixels, this page takes pictures up to {MOST_PIXELS // 1_000_000} million; make it smaller"
                )
            return not getattr(image, "is_animated", False)
    except Image.DecompressionBombError as error:
        raise InputError(f"{path.name} is too large a picture ({error}); make it smaller") from error
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError):
        return False


def _look_at_film(path: Path, limits: Limits) -> Upload:
    try:
        with open_media(path) as container:
            video, audio = picture_stream(container), sound_stream(container)
            if video is None and audio is None:
                raise InputError(
                    f"{path.name} has neither picture nor sound that can be decoded; choose a film, a sound or a picture"
                )
            seconds = (container.duration or 0) / 1_000_000
            if video is not None:
                _check_frame(path, *display_size(video))
            picture, sound = video is not None, audio is not None
    except MediaError as error:
        raise InputError(
            f"{in_words(error, path)}. It is no picture, film or sound that can be read; choose another file"
        ) from error
    if seconds <= 0:  # the head does not say: read on
        facts = probe(str(path), loudness=False)
        if facts["reason"] is not None:
            raise InputError(f"{path.name} cannot be used: {facts['reason']}")
        seconds = max(span[1] for span in (facts["video"], facts["audio"]) if span is not None)
    if seconds > limits.max_seconds + 0.5:  # a film of "two minutes" is a frame or two longer
        raise InputError(
            f"{path.name} lasts {seconds:.0f} s, this page takes up to {limits.max_seconds:g} s; cut the file, start the page with a larger "
            "--max-seconds, or use the command line, which has no limit"
        )
    return Upload(path, False, picture, sound, seconds)


def _check_frame(path: Path, width: int, height: int) -> None:
    if width * height > MOST_FILM_PIXELS:
        raise InputError(f"{path.name} is {width} x {height} pixels, this page takes films up to 4096 x 2304; make it smaller")
