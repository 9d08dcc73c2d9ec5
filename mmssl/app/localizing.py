"""Localizing for the page: an upload in, the heatmap film, what was found and the map of any moment as HTML."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmssl.app.heat_view import heat_view, read_maps
from mmssl.app.jobs import Cancelled
from mmssl.app.limits import in_words, look_at_upload
from mmssl.app.models import Listener
from mmssl.app.players import downloads, film, note, problem
from mmssl.app.room import Room
from mmssl.downstream.localize import Localization, Options, localize
from mmssl.types import InputError, MediaError

SAVED = {"heat.mp4": "film (.mp4)", "heat.json": "findings (.json)", "heat.npz": "maps (.npz)"}


@dataclass(frozen=True, slots=True)
class Shown:
    """What the tab shows; `token` is empty where there is nothing to point at."""

    html: str
    token: str = ""
    film: str = ""  # path of the film that was given
    last: float = 0.0  # seconds: the last moment with a map
    best: float = 0.0  # the one to begin with


def find_source(room: Room, listener: Listener, file: str | None, options: Options, visitor: str, report: Any = None) -> Shown:
    """Localize an upload."""
    if not file:
        return Shown(problem("there is no film yet: drop one, or choose a file"))
    named = Path(file)
    token, folder = room.results.new()
    try:
        with room.jobs.job(visitor) as job:
            upload = look_at_upload(named, room.limits, room.uploads)
            if upload.still:
                raise InputError(f"{named.name} is a still picture; localization takes a film with picture and sound")

            def watch(text: str, done: float, total: float) -> None:
                job.tick()
                if report is not None:
                    report((min(done, total) / total) if total else None, desc=text)

            found = localize(
                upload.path,
                folder / "heat.mp4",
                listener.pairing,
                calibration=listener.calibration,
                options=options,
                model=listener.words,
                progress=False,
                watch=watch,
            )
    except (InputError, MediaError) as error:
        room.results.drop(token)
        return Shown(problem(in_words(error, named)))
    except Cancelled:
        room.results.drop(token)
        return Shown(note("Cancelled."))
    return _shown(found, token, folder, upload.path)


def _shown(found: Localization, token: str, folder: Path, path: Path) -> Shown:
    maps = read_maps(folder / "heat.npz")
    html = film(token, "heat.mp4", label="Heatmap film, with its sound") + note(found.sentence()) + downloads(token, SAVED)
    return Shown(html, token, str(path), float(maps.times[-1]), float(maps.times[maps.best]))


def moment(room: Room, token: str, path: str, seconds: float) -> str:
    """HTML of the map of a moment of a result."""
    folder = room.results.folder(token) if token else None
    if folder is None:
        return problem("this result is gone; localize the film again") if token else ""
    if not Path(path).is_file():
        return problem("the film was deleted from the server; localize it again")
    try:
        return heat_view(Path(path), read_maps(folder / "heat.npz"), float(seconds))
    except MediaError as error:
        return problem(in_words(error, Path(path)))
