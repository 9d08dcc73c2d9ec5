"""What the server answers beside the page: players' films and downloads, each found by an id or a token, never by a path."""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI, HTTPException
from fastapi.responses import FileResponse

from mmssl.app.corpus import Corpus, NotServed, playable
from mmssl.app.cuts import LONGEST, Cuts
from mmssl.app.results import MEDIA_TYPES, Results
from mmssl.types import MediaError, Span


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
