"""The localize tab: a film in, the heatmap film, what was found in words, and the map of any moment under the pointer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

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


def find_source(
    room: Room, listener: Listener, file: str | None, options: Options, visitor: str, report: Any = None
) -> Shown:
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


def localize_tab(room: Room) -> None:
    """Build the tab."""
    listener = room.models.localize
    if isinstance(listener, str):
        gr.HTML(note(f"This run cannot localize: {listener}. `mmssl app RUN` with a run of av_nce, avenet or avts shows it here."))
        return
    with gr.Row(equal_height=False):
        with gr.Column(scale=1, min_width=280):
            file = gr.File(label="A film with picture and sound", elem_id="localize-file", height=130)
            sources = gr.Slider(0, 4, value=0, step=1, label="Sources", info="0: one map. 2 or more: a map and a colour for each.", elem_id="localize-sources")
            smooth = gr.Slider(0, 3, value=0, step=0.1, label="Smooth over (seconds)", elem_id="localize-smooth")
            go = gr.Button("Localize", variant="primary", elem_id="localize-go")
            stop = gr.Button("Cancel", elem_id="localize-stop")
        with gr.Column(scale=3, min_width=420):
            out = gr.HTML(note("The heatmap film is shown here, with its sound."), elem_id="localize-out")
            seconds = gr.Slider(0, 1, value=0, step=0.1, label="Moment (seconds)", visible=False, elem_id="localize-moment")
            view = gr.HTML("", elem_id="localize-view")
    kept = gr.State(("", ""))

    def work(
        file: str | None, sources: float, smooth: float, request: gr.Request, progress: gr.Progress = gr.Progress()
    ) -> tuple[str, tuple[str, str], Any, str]:
        options = Options(sources=0 if sources < 2 else int(sources), smooth=float(smooth))
        shown = find_source(room, listener, file, options, str(request.session_hash), progress)
        slider = gr.Slider(visible=bool(shown.token), minimum=0, maximum=max(0.1, round(shown.last, 1)), value=round(shown.best, 1))
        return shown.html, (shown.token, shown.film), slider, moment(room, shown.token, shown.film, shown.best)

    def look(seconds: float, kept: tuple[str, str]) -> str:
        return moment(room, kept[0], kept[1], seconds)

    room.job([go.click], work, [file, sources, smooth], [out, kept, seconds, view], stop)
    # Not in the queue of jobs: a frame and a map are read, nothing is computed.
    gr.on([seconds.release, seconds.input], look, [seconds, kept], [view], show_progress="hidden", trigger_mode="always_last", concurrency_limit=2, concurrency_id="look", api_visibility="private")
