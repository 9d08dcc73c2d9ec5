"""Tracking for the page: an upload and a mask in, the overlay film and the masks as HTML and files."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmssl.app.drawn_mask import painter, save_drawn
from mmssl.app.jobs import Cancelled
from mmssl.app.limits import in_words, look_at_upload
from mmssl.app.models import Tracker
from mmssl.app.players import downloads, film, note, problem
from mmssl.app.room import Room
from mmssl.app.thumbnails import frame_at
from mmssl.downstream.footage import open_footage
from mmssl.downstream.given import read_given
from mmssl.downstream.track_film import track_film
from mmssl.types import InputError, MediaError

SAVED = {"overlay.mp4": "film (.mp4)", "masks.zip": "masks (.zip)", "track.json": "boxes (.json)"}
MASK_MB = 20.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be followed, as the tab takes it."""

    film: str | None
    drawn: str  # see `save_drawn`
    mask: str | None  # a file; it goes before what is painted
    start: float  # seconds


def first_frame(room: Room, file: str | None, start: float) -> str:
    """HTML to paint on the frame at `start`."""
    if not file:
        return ""
    named = Path(file)
    try:
        upload = look_at_upload(named, room.limits, room.uploads)
        if upload.still:
            raise InputError(f"{named.name} is a still picture; tracking takes a film")
        footage = open_footage(upload.path)
        if footage.end and start >= footage.end:
            raise InputError(f"the film lasts {footage.end:.2f} s; begin earlier than {start:g} s")
        return painter(frame_at(upload.path, max(start, footage.begin)), moment=max(start, footage.begin))
    except (InputError, MediaError) as error:
        return problem(in_words(error, named))


def follow(room: Room, tracker: Tracker, wanted: Wanted, visitor: str, report: Any = None) -> str:
    """Track, and give HTML of what came of it."""
    if not wanted.film:
        return problem("there is no film yet: drop one, or choose a file")
    named = Path(wanted.film)
    token, folder = room.results.new()
    mask = Path(wanted.mask) if wanted.mask else folder / "painted mask"
    try:
        with room.jobs.job(visitor) as job:
            upload = look_at_upload(named, room.limits, room.uploads)
            if upload.still:
                raise InputError(f"{named.name} is a still picture; tracking takes a film")
            footage = open_footage(upload.path)
            given = read_given(footage.size, mask=_mask(room, wanted, mask))
            total, done = footage.count(wanted.start, None), 0

            def on_frame() -> None:
                nonlocal done
                done += 1
                job.tick()
                if report is not None:
                    report(min(1.0, done / total) if total else None, desc=f"tracking, frame {done}")

            found = track_film(
                footage,
                given,
                tracker.sight,
                folder / "track",
                start=wanted.start,
                about={"run": tracker.words, "video": named.name},
                on_frame=on_frame,
            )
            _gather(folder)
    except (InputError, MediaError) as error:
        room.results.drop(token)
        return problem(in_words(error, named, mask))
    except Cancelled:
        room.results.drop(token)
        return note("Cancelled.")
    return (
        film(token, "overlay.mp4", label="The film with what was followed painted over")
        + note(found.sentence())
        + downloads(token, SAVED)
    )


def _mask(room: Room, wanted: Wanted, place: Path) -> Path:
    if not wanted.mask:
        return save_drawn(wanted.drawn, place)
    path = place.resolve()
    if not path.is_relative_to(room.uploads.resolve()) or not path.is_file():
        raise InputError(f"{path.name} is not here any more; choose the file again")
    if path.stat().st_size > MASK_MB * 1e6:
        raise InputError(f"{path.name} has {path.stat().st_size / 1e6:.1f} MB, a mask has up to {MASK_MB:g}; is it a mask?")
    return path


def _gather(folder: Path) -> None:
    """The film, the JSON and a zip of the masks where they are served from."""
    made = folder / "track"
    with zipfile.ZipFile(folder / "masks.zip", "w", zipfile.ZIP_STORED) as archive:  # PNGs are compressed
        for path in sorted((made / "masks").iterdir()):
            archive.write(path, path.name)
    for name in ("overlay.mp4", "track.json"):
        (made / name).replace(folder / name)
