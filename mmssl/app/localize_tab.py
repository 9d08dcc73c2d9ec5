"""The localize tab: a film in, the heatmap film, what was found in words, and the map of any moment under the pointer."""

from __future__ import annotations

from typing import Any

import gradio as gr

from mmssl.app.localizing import find_source, moment
from mmssl.app.players import note
from mmssl.app.queueing import queued
from mmssl.app.room import Room
from mmssl.downstream.localize import Options


def localize_tab(room: Room) -> None:
    """Build the tab."""
    listener = room.models.localize
    if isinstance(listener, str):
        gr.HTML(
            note(f"This run cannot localize: {listener}. `mmssl app RUN` with a run of av_nce, avenet or avts shows it here.")
        )
        return
    with gr.Row(equal_height=False):
        with gr.Column(scale=1, min_width=280):
            file = gr.File(label="A film with picture and sound", elem_id="localize-file", height=160)
            sources = gr.Slider(
                0,
                4,
                value=0,
                step=1,
                label="Sources",
                info="0: one map. 2 or more: a map and a colour for each.",
                elem_id="localize-sources",
            )
            smooth = gr.Slider(0, 3, value=0, step=0.1, label="Smooth (seconds)", elem_id="localize-smooth")
            go = gr.Button("Localize", variant="primary", elem_id="localize-go")
            stop = gr.Button("Cancel", elem_id="localize-stop")
        with gr.Column(scale=2, min_width=380):
            out = gr.HTML(note("The heatmap film is shown here, with its sound."), elem_id="localize-out")
        with gr.Column(scale=2, min_width=380):
            view = gr.HTML("", elem_id="localize-view")
            seconds = gr.Slider(0, 1, value=0, step=0.1, label="Moment (seconds)", visible=False, elem_id="localize-moment")
    kept = gr.State(("", ""))

    def work(
        file: str | None, sources: float, smooth: float, request: gr.Request, progress: gr.Progress = gr.Progress()
    ) -> tuple[str, tuple[str, str], Any, str]:
        options = Options(sources=0 if sources < 2 else int(sources), smooth=float(smooth))
        shown = find_source(room, listener, file, options, str(request.session_hash), progress)
        slider = gr.Slider(
            visible=bool(shown.token), minimum=0, maximum=max(0.1, round(shown.last, 1)), value=round(shown.best, 1)
        )
        return shown.html, (shown.token, shown.film), slider, moment(room, shown.token, shown.film, shown.best)

    def look(seconds: float, kept: tuple[str, str]) -> str:
        return moment(room, kept[0], kept[1], seconds)

    queued(room, [go.click], work, [file, sources, smooth], [out, kept, seconds, view], stop)
    # Not in the queue of jobs: a frame and a map are read, nothing is computed.
    gr.on(
        [seconds.release, seconds.input],
        look,
        [seconds, kept],
        [view],
        show_progress="hidden",
        trigger_mode="always_last",
        concurrency_limit=2,
        concurrency_id="look",
        api_visibility="private",
    )
