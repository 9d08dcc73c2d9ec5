"""The server: folders that live as long as it does, the page, and what it answers beside it."""

from __future__ import annotations

import os
import signal
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mmssl.app.jobs import Jobs
from mmssl.app.limits import Limits
from mmssl.types import InputError

if TYPE_CHECKING:
    from fastapi import FastAPI

    from mmssl.app.models import Models


def serve(
    models: Models,
    *,
    title: str,
    limits: Limits,
    host: str = "127.0.0.1",
    port: int = 7860,
    on_start: Callable[[str], object] | None = None,
) -> None:
    """Serve the page until Ctrl-C or SIGTERM. Uploads and results lie in a temporary folder that goes with it.

    Args:
        models: behind the tabs.
        title: of the page.
        limits: on uploads and jobs.
        host: to listen at.
        port: to listen at; 0: any that is free.
        on_start: told the address as soon as it is listened at.

    Raises:
        InputError: nothing can be listened at there.
    """
    import uvicorn

    listening = _listen(host, port)
    with _stopped_softly(), tempfile.TemporaryDirectory(prefix="mmssl-app-", ignore_cleanup_errors=True) as scratch:
        jobs = Jobs(60 * limits.max_minutes)
        app = build_server(models, jobs, title=title, limits=limits, host=host, folder=Path(scratch))
        shown = f"[{host}]" if ":" in host else host
        if on_start is not None:
            on_start(f"http://{shown}:{listening.getsockname()[1]}/")
        settings = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=3)
        try:
            uvicorn.Server(settings).run(sockets=[listening])
        finally:
            jobs.cancel()


@contextmanager
def _stopped_softly() -> Iterator[None]:
    """Ctrl-C and SIGTERM end the block, so that folders are deleted; uvicorn raises again what it caught."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    mine = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, stop) if mine else None
    try:
        yield
    except KeyboardInterrupt:
        return
    finally:
        if mine:
            signal.signal(signal.SIGTERM, before)


def build_server(models: Models, jobs: Jobs, *, title: str, limits: Limits, host: str, folder: Path) -> FastAPI:
    """The whole application; all that it writes goes into `folder`."""
    uploads = folder / "uploads"
    uploads.mkdir()
    # Gradio reads these when it is imported or builds its components.
    os.environ["GRADIO_TEMP_DIR"] = str(uploads.resolve())
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    import gradio as gr
    from fastapi import FastAPI

    from mmssl.app.corpus import Corpus
    from mmssl.app.cuts import Cuts
    from mmssl.app.gate import Gate
    from mmssl.app.page import build_page, dressing
    from mmssl.app.results import Results
    from mmssl.app.room import Room
    from mmssl.app.serving import routes

    corpus = None if isinstance(models.search, str) else Corpus(models.search.store)
    results = Results(folder / "results")
    room = Room(models, limits, uploads, results, corpus, jobs)
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    routes(app, results, corpus, Cuts(folder / "cuts"))
    app.add_middleware(Gate, uploads=uploads, host=host)
    page = build_page(room, title)
    page.has_launched = (
        True  # else Gradio, mounted, does not check that files named in requests were uploaded (the gate does, too)
    )
    return gr.mount_gradio_app(
        app,
        page,
        path="/",
        footer_links=[],
        run_history=False,
        allowed_paths=[],
        blocked_paths=[],
        show_error=False,
        max_file_size=limits.max_bytes,
        ssr_mode=False,
        mcp_server=False,
        pwa=False,
        enable_monitoring=False,
        **dressing(limits),
    )


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(128)
    except (OSError, OverflowError) as error:
        listening.close()
        raise InputError(
            f"nothing can be served at {host}:{port} ({error}); give another --port, or a --host of this machine"
        ) from error
    return listening
