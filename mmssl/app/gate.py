"""What the server does not answer: what the page never asks for, what comes from elsewhere, and files that were not uploaded."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from starlette.responses import PlainTextResponse

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

MOST = 64_000_000  # bytes of a request that is no upload; a painted mask is in one
API = "/gradio_api/"
# What the page itself asks for, by the first part of the address below `API`, and beside it.
USED = frozenset(
    {"upload", "upload_progress", "queue", "cancel", "heartbeat", "reset", "startup-events", "theme.css", "run", "app_id"}
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
        path = unquote(scope["path"])
        refused = self._refused(path, headers)
        if refused is None and scope.get("method") == "POST" and not path.startswith(f"{API}upload"):
            receive, refused = await self._read(receive)
        if refused is not None:
            await PlainTextResponse(refused[1], status_code=refused[0])(scope, receive, send)
            return

        async def sent(message: Message) -> None:
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

    async def _read(self, receive: Receive) -> tuple[Receive, tuple[int, str] | None]:
        """The body read and to be read again, and why it is refused: files that it names must have been uploaded.

        Gradio checks that itself, but not where it is mounted in another application: there it takes, and serves, any path that a request names.
        """
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), bool(message.get("more_body"))
            if len(body) > MOST:
                return receive, (413, "the request is too large")
        try:
            named = list(paths_in(json.loads(body))) if body.strip() else []
        except (ValueError, RecursionError):
            return receive, (400, "the request is no JSON")
        given = [{"type": "http.request", "body": body, "more_body": False}]

        async def again() -> Any:
            return given.pop() if given else await receive()

        wrong = not all(isinstance(path, str) and self._is_upload(path) for path in named)
        return again, (403, "a file that was not uploaded") if wrong else None

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


def paths_in(content: Any) -> Iterator[Any]:
    """Everything that stands under the key "path" in JSON: what Gradio takes for the place of a file."""
    if isinstance(content, dict):
        for key, value in content.items():
            if key == "path":
                yield value
            yield from paths_in(value)
    elif isinstance(content, list):
        for value in content:
            yield from paths_in(value)
