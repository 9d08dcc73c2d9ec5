"""Searching for the page: a question as a visitor puts it, an answer as HTML."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmssl.app.corpus import Corpus, NotServed, playable
from mmssl.app.jobs import Cancelled
from mmssl.app.limits import Upload, in_words, look_at_upload
from mmssl.app.players import Card, cards, note, problem
from mmssl.app.room import Room
from mmssl.app.thumbnails import thumbnail
from mmssl.downstream.search.answers import Answer, Hit
from mmssl.downstream.spaces import WORDS, Kind
from mmssl.search import Searcher
from mmssl.types import InputError, Span

MOST = 24  # results
ASKED = {"its picture": "video", "its sound": "audio", "its motion": "flow"}
OTHER = "what goes with it"


@dataclass(frozen=True, slots=True)
class Asked:
    """A question as the tab takes it."""

    words: str
    file: str | None
    part: str  # of a film: one of `ASKED`
    into: str  # `OTHER`, or one of `WORDS`
    count: int


def search(room: Room, searcher: Searcher, asked: Asked, visitor: str, report: Any = None) -> str:
    """HTML of what is found, or of why nothing is."""
    named = Path(asked.file or "words")
    corpus = room.corpus
    assert corpus is not None  # there is a searcher
    try:
        with room.jobs.job(visitor) as job:
            query = searcher.query(**_query(room, searcher, asked))
            job.tick()
            into = next((kind for kind, words in WORDS.items() if words == asked.into), None)
            found = searcher.find(query, into=into, k=max(1, min(asked.count, MOST)))
            shown = []
            for hit in found.hits:
                job.tick()
                shown.append(_card(corpus, hit))
                if report is not None:
                    report((len(shown), len(found.hits)), desc="looking up results")
    except InputError as error:
        return problem(in_words(error, named))
    except Cancelled:
        return note("Cancelled.")
    return cards(shown, _heading(asked, found)) if shown else note("Nothing was found.")


def _query(room: Room, searcher: Searcher, asked: Asked) -> dict[str, Any]:
    words, kinds = asked.words.strip(), searcher.space.kinds
    if words and asked.file:
        raise InputError("words and a file are given; ask by one of them, and take the other away")
    if words:
        return {"text": words}
    if not asked.file:
        raise InputError(f"there is nothing to ask by yet: {'type words, or ' if 'text' in kinds else ''}drop a file")
    upload = look_at_upload(Path(asked.file), room.limits, room.uploads)
    if upload.still:
        return {"image": upload.path}
    kind = _part(upload, asked.part, kinds)
    return {"motion" if kind == "flow" else kind: str(upload.path)}


def _part(upload: Upload, wanted: str, kinds: tuple[Kind, ...]) -> str:
    """What of a film is asked by: what is wanted, or what there is where it has no such thing."""
    has = {"video": upload.picture, "audio": upload.sound, "flow": upload.picture}
    kind = ASKED.get(wanted, "video")
    if has.get(kind) and kind in kinds:
        return kind
    other = next((name for name in kinds if has.get(name)), None)
    if other is None:
        there = " and ".join(word for word, held in (("pictures", upload.picture), ("sound", upload.sound)) if held)
        raise InputError(
            f"{upload.path.name} has {there}, and this index is asked by {' or '.join(WORDS[name] for name in kinds)}; choose another file"
        )
    return other


def _card(corpus: Corpus, hit: Hit) -> Card:
    about = (hit.rank, hit.score, hit.id, hit.path, hit.label, hit.start, hit.end, hit.text or "")
    try:
        path = corpus.place(hit.id)
    except NotServed as reason:
        return Card(*about, thumbnail="", kind=None, missing=str(reason))
    return Card(*about, thumbnail=thumbnail(path, Span(hit.start, hit.end), hit.at), kind=playable(path))


def _heading(asked: Asked, found: Answer) -> str:
    by = f"“{asked.words.strip()}”" if asked.words.strip() else f"{WORDS[found.query.kind]} of {Path(asked.file or '').name}"
    return f"{len(found.hits)} of {found.rows:,} windows, nearest first: {by} → {WORDS[found.kind]}. The number is the cosine."
