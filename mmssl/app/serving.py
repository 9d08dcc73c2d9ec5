"""What the server answers beside the page: players' films and downloads; and what it does not answer.

Only what stands here and the few of Gradio's own addresses that the page uses are answered. Gradio's `file=` gives back uploads and nothing else.
"""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from fastapi import FastAPI, HTTPException
from fastapi.responses import FileResponse, PlainTextResponse

from mmssl.app.corpus import Corpus, NotServed, playable
from mmssl.app.cuts import LONGEST, Cuts
from mmssl.app.results import MEDIA_TYPES, Results
from mmssl.types import MediaError, Span

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

API = "/gradio_api/"
# What the page itself asks for, by the first part of the address below `API`, and beside it.
USED = frozenset(
    {"upload", "upload_progress", "queue", "cancel", "heartbeat", "reset", "startup-events", "theme.css", "info", "app_id"}
)
BESIDE = frozenset(
    {
        "",
        "config",
        "theme.css",
        "assets",
        "static",
        "favicon.ico",
        "manifest.json",
        "robots.txt",
        "corpus",
        "results",
        "login_check",
    }
)
# The browser itself holds the page to loading nothing from elsewhere. (Gradio makes functions out of text, hence `unsafe-eval`.)
POLICY = (
    b"default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; frame-ancestors 'self'; form-action 'self'; base-uri 'self'"
)
HEADERS = ((b"content-security-policy", POLICY), (b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer"))


def is_loopback(host: str) -> bool:
    """Whether a name stands for this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:  # a name: nobody knows where it leads
        return False


def routes(app: FastAPI, results: Results, corpus: Corpus | None, cuts: Cuts) -> None:
    """Add the addresses of films and downloads. All give parts of files (`Range`), so that players can jump."""

    @app.get("/results/{token}/{name}")
    def result(token: str, name: str) -> FileResponse:
        path = results.find(token, name)
        if path is None:
            raise HTTPException(404, "there is no such result, or it was deleted for newer ones")
        return FileResponse(path, media_type=MEDIA_TYPES[path.suffix])

    @app.get("/corpus/file")
    def file(id: str) -> FileResponse:
        path = _place(corpus, id)
        kind = playable(path)
        if kind is None:
            raise HTTPException(404, "browsers do not play this file as it is")
        return FileResponse(path, media_type=kind)

    @app.get("/corpus/cut")
    def cut(id: str, start: float, end: float) -> FileResponse:
        if not (0.0 <= start < end <= start + LONGEST and end < 1e6):  # false for NaN, too
            raise HTTPException(400, f"a stretch is more than 0 and up to {LONGEST:g} s long")
        try:
            return FileResponse(cuts.get(_place(corpus, id), Span(start, end)), media_type="video/mp4")
        except MediaError as error:
            raise HTTPException(404, "the file cannot be played") from error


def _place(corpus: Corpus | None, name: str) -> Path:
    if corpus is None:
        raise HTTPException(404, "this page was started without an index")
    try:
        return corpus.place(name)
    except NotServed as reason:
        raise HTTPException(404, str(reason)) from reason


class Gate:
    """Lets through what the page needs, from the page itself.

    A page of another site, open in the same browser, can send requests to this machine, also under a name of its own that it points here: such
    requests name another host or another origin, and are refused.

    Args:
        app: what lies behind.
        uploads: folder of uploads.
        host: that is served; any name is right where it is none of loopback.
    """

    def __init__(self, app: ASGIApp, *, uploads: Path, host: str) -> None:
        self._app, self._uploads, self._host = app, uploads.resolve(), host

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or say why not."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        refused = self._refused(unquote(scope["path"]), headers)
        if refused is not None:
            await PlainTextResponse(refused[1], status_code=refused[0])(scope, receive, send)
            return

        async def sent(message: dict) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *HEADERS]}
            await send(message)

        await self._app(scope, receive, sent)

    def _refused(self, path: str, headers: dict[bytes, str]) -> tuple[int, str] | None:
        host = headers.get(b"host", "")
        name = urlsplit(f"//{host}").hostname or ""
        if is_loopback(self._host) and not is_loopback(name):
            return 400, "this page is served to this machine alone"
        origin = headers.get(b"origin")
        if origin is not None and urlsplit(origin).netloc != host:
            return 403, "this request comes from another site"
        if headers.get(b"sec-fetch-site") == "cross-site" and headers.get(b"sec-fetch-mode") != "navigate":
            return 403, "this request comes from another site"
        return None if self._known(path) else (404, "not found")

    def _known(self, path: str) -> bool:
        if "\\" in path or "\0" in path or ".." in path.split("/"):
            return False
        if path.startswith(f"{API}file="):
            return self._is_upload(path.removeprefix(f"{API}file="))
        if path.startswith(API):
            return path.removeprefix(API).split("/")[0] in USED
        return path.lstrip("/").split("/")[0] in BESIDE

    def _is_upload(self, named: str) -> bool:
        place = Path(named)
        return place.is_absolute() and place.resolve().is_relative_to(self._uploads) and place.is_file()
