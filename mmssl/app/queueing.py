"""The one queue of all that computes, and the buttons that start and cancel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
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
        work: called with the values of `inputs` and a `gr.Request`, returns the values of `outputs`.
        inputs, outputs: components; the first output shows progress.
        stop: the button.
        js: makes the inputs in the browser.
    """
    broken: set[str] = set()  # visitors whose last piece of work ended by an error that nobody foresaw

    @wraps(work)
    def watched(*args: Any, **kwargs: Any) -> Any:
        visitor = next(str(value.session_hash) for value in (*args, *kwargs.values()) if isinstance(value, gr.Request))
        broken.discard(visitor)
        try:
            return work(*args, **kwargs)
        # Whatever it is, it goes on to Gradio, which logs and shows it; here it is only told from a wish to cancel.
        except Exception:
            broken.add(visitor)
            raise

    event = gr.on(
        list(triggers),
        watched,
        list(inputs),
        list(outputs),
        js=js,
        show_progress_on=outputs[0],
        concurrency_limit=1,
        concurrency_id=QUEUE,
        trigger_mode="once",
        api_visibility="private",
    )

    def cancel(request: gr.Request) -> None:
        room.jobs.cancel(str(request.session_hash))

    def ended(request: gr.Request) -> Any:
        return gr.skip() if str(request.session_hash) in broken else note("Cancelled.")

    stop.click(cancel, None, None, queue=False, cancels=[event], api_visibility="private")
    # Gradio passes over a click on a button whose event is under way, and one that is being cancelled is so until the work has reached its next
    # tick. A cancelled event counts as a failure once it is over: said earlier, "Cancelled." would invite a click that nothing comes of.
    event.failure(ended, None, outputs[0], queue=False, api_visibility="private")
