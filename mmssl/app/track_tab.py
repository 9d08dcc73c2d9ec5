"""The track tab: paint on a frame, or give a mask, and see it followed through the film."""

from __future__ import annotations

import gradio as gr

from mmssl.app.following import Wanted, first_frame, follow
from mmssl.app.players import note
from mmssl.app.queueing import queued
from mmssl.app.room import Room


def track_tab(room: Room) -> None:
    """Build the tab."""
    tracker = room.models.track
    if isinstance(tracker, str):
        gr.HTML(
            note(
                f"This run cannot track: {tracker}. `mmssl app RUN --track OTHER`, with a run of colorize or contrastive_random_walk, shows it here."
            )
        )
        return
    with gr.Row(equal_height=False):
        with gr.Column(scale=1, min_width=280):
            file = gr.File(label="A film", elem_id="track-file", height=160)
            start = gr.Number(label="Begin at (seconds)", value=0, minimum=0, elem_id="track-start")
            mask = gr.File(label="Or a mask instead (palette PNG)", elem_id="track-mask", height=160)
            go = gr.Button("Track", variant="primary", elem_id="track-go")
            stop = gr.Button("Cancel", elem_id="track-stop")
            drawn = gr.Textbox(visible=False, label="The painted mask")
        with gr.Column(scale=2, min_width=380):
            canvas = gr.HTML(note("The frame to paint on is shown here once there is a film."), elem_id="track-canvas")
        with gr.Column(scale=2, min_width=380):
            out = gr.HTML("", elem_id="track-out")

    def show(file: str | None, start: float | None) -> str:
        return first_frame(room, file, float(start or 0.0)) or note("The frame to paint on is shown here once there is a film.")

    def work(
        file: str | None,
        drawn: str,
        mask: str | None,
        start: float | None,
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),
    ) -> str:
        return follow(room, tracker, Wanted(file, drawn, mask, float(start or 0.0)), str(request.session_hash), progress)

    gr.on(
        [file.change, start.change],
        show,
        [file, start],
        [canvas],
        concurrency_limit=2,
        concurrency_id="look",
        api_visibility="private",
    )
    painted = "(file, drawn, mask, start) => [file, window.mmssl.mask(), mask, start]"
    queued(room, [go.click], work, [file, drawn, mask, start], [out], stop, js=painted)
