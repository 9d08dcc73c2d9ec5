"""The search tab: ask by words, a sound, a picture or a film; results play from the right second."""

from __future__ import annotations

import gradio as gr

from mmssl.app.players import note
from mmssl.app.queueing import queued
from mmssl.app.room import Room
from mmssl.app.searching import ASKED, MOST, OTHER, Asked, search
from mmssl.downstream.spaces import KINDS, WORDS


def search_tab(room: Room) -> None:
    """Build the tab."""
    searcher = room.models.search
    if isinstance(searcher, str):
        gr.HTML(
            note(
                "Search needs an index. `mmssl search index RUN FOLDER clips.search` makes one, with a run that joins pictures and sound, words or "
                "motion (av_nce, mil_nce, rgb_flow ...); `mmssl app RUN --search clips.search` shows it here."
            )
        )
        return
    kinds = searcher.space.kinds
    parts = [words for words, kind in ASKED.items() if kind in kinds]
    held = [WORDS[kind] for kind in KINDS if kind in searcher.store.about["kinds"]]
    with gr.Row(equal_height=False):
        with gr.Column(scale=1, min_width=280):
            words = gr.Textbox(
                label="Words",
                placeholder="a red ball",
                visible="text" in kinds,
                elem_id="search-words",
            )
            if "text" not in kinds:
                gr.HTML(
                    f'<p class="mm-note">This index joins {searcher.space.words()} and knows no words. A run of mil_nce does.</p>'
                )
            file = gr.File(label="A sound, a picture or a film", elem_id="search-file", height=160)
            part = gr.Radio(
                parts, value=parts[0] if parts else None, label="Of a film, ask by", visible=len(parts) > 1, elem_id="search-part"
            )
            into = gr.Radio([OTHER, *held], value=OTHER, label="Search in", elem_id="search-into")
            count = gr.Slider(1, MOST, value=9, step=1, label="Results", elem_id="search-count")
            go = gr.Button("Search", variant="primary", elem_id="search-go")
            stop = gr.Button("Cancel", elem_id="search-stop")
        with gr.Column(scale=4, min_width=420):
            out = gr.HTML(note("Results are shown here. Each plays from the second that was found."), elem_id="search-out")

    def answer(
        words: str,
        file: str | None,
        part: str,
        into: str,
        count: float,
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),
    ) -> str:
        return search(room, searcher, Asked(words or "", file, part or "", into, int(count)), str(request.session_hash), progress)

    inputs = [words, file, part, into, count]
    queued(room, [go.click, words.submit], answer, inputs, [out], stop)
