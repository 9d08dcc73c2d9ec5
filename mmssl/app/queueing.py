"""The one queue of all that computes, and the buttons that start and cancel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr

from mmssl.app.players import note
from mmssl.app.room import Room

QUEUE = "model"


def queued(
    room: Room,
    triggers: Sequence[Any],
    work: Callable[..., Any],
    inputs: Sequence[Any],
    outputs: Sequence[Any],
    stop: gr.Button,
    *,
    js: str | None = None,
) -> None:
    """Let triggers start a piece of work, one at a time in the whole server, and `stop` end it, running or waiting.

    Args:
        room: whose jobs are cancelled.
        triggers: events.
        work: called with the values of `inputs`, returns those of `outputs`.
        inputs, outputs: components; the first output shows progress.
        stop: the button.
        js: makes the inputs in the browser.
    """
    event = gr.on(
        list(triggers),
        work,
        list(inputs),
        list(outputs),
        js=js,
        show_progress_on=outputs[0],
        concurrency_limit=1,
        concurrency_id=QUEUE,
        trigger_mode="once",
        api_visibility="private",
    )

    def cancel(request: gr.Request) -> str:
        room.jobs.cancel(str(request.session_hash))
        return note("Cancelled.")

    stop.click(cancel, None, outputs[0], queue=False, cancels=[event], api_visibility="private")
