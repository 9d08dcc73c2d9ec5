"""What all tabs share: models, limits, folders, the queue."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from mmssl.app.corpus import Corpus
from mmssl.app.jobs import Jobs
from mmssl.app.limits import Limits
from mmssl.app.models import Models
from mmssl.app.results import Results

QUEUE = "model"  # one queue for all that computes


@dataclass(frozen=True, slots=True)
class Room:
    """Handed to each tab as it is built."""

    models: Models
    limits: Limits
    uploads: Path
    results: Results
    corpus: Corpus | None
    jobs: Jobs

    def job(
        self,
        triggers: Sequence[Any],
        work: Callable[..., Any],
        inputs: Sequence[Any],
        outputs: Sequence[Any],
        stop: gr.Button,
        *,
        js: str | None = None,
    ) -> Any:
        """Let triggers start a piece of work, one at a time in the whole server, and `stop` end it, running or waiting."""
        event = gr.on(
            list(triggers),
            work,
            list(inputs),
            list(outputs),
            js=js,
            concurrency_limit=1,
            concurrency_id=QUEUE,
            trigger_mode="once",
            api_visibility="private",
        )

        def cancel(request: gr.Request) -> str:
            self.jobs.cancel(str(request.session_hash))
            return '<div class="mm-message mm-note-box" role="status">Cancelled.</div>'

        stop.click(cancel, None, outputs[0], queue=False, cancels=[event], api_visibility="private")
        return event
