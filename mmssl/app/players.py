"""Results as HTML: cards with players that begin at the right second, and messages. Everything that comes from files is escaped."""

from __future__ import annotations

import html
from dataclasses import dataclass
from urllib.parse import quote

from mmssl.downstream.search.sheet import moment as clock


@dataclass(frozen=True, slots=True)
class Card:
    """A result, as it is shown."""

    rank: int
    score: float
    id: str
    path: str
    label: str
    start: float  # seconds
    end: float
    text: str
    thumbnail: str  # a `data:` address, or empty
    kind: str | None  # type of a file that browsers play as it is; None: a stretch is made for them
    missing: str = ""  # why there is nothing to play


def cards(found: list[Card], heading: str) -> str:
    """All results in order."""
    inside = "".join(_card(card) for card in found)
    return f'<p class="mm-found">{html.escape(heading)}</p><ol class="mm-cards">{inside}</ol>'


def _card(card: Card) -> str:
    time = f"{clock(card.start)} – {clock(card.end)}"
    name = html.escape(card.path)
    said = f'<p class="mm-said">“{html.escape(card.text)}”</p>' if card.text else ""
    label = f" · {html.escape(card.label)}" if card.label else ""
    return (
        f'<li class="mm-card" data-id="{html.escape(card.id, quote=True)}">{_player(card, name, time)}'
        f'<div class="mm-card-text"><p class="mm-card-name" title="{name}">{name}</p>'
        f'<p class="mm-card-facts"><span class="mm-rank">{card.rank}</span> {time}{label}'
        f'<span class="mm-score" title="cosine; compare scores of one search only">{card.score:.3f}</span></p>{said}</div></li>'
    )


def _player(card: Card, name: str, time: str) -> str:
    if card.missing:
        return f'<div class="mm-missing" role="img" aria-label="{html.escape(card.missing)}">{html.escape(card.missing)}</div>'
    poster = f' poster="{card.thumbnail}"' if card.thumbnail else ""
    return (
        f'<video controls preload="metadata" playsinline src="{html.escape(address(card), quote=True)}"{poster} '
        f'aria-label="{name}, {time}"></video>'
    )


def address(card: Card) -> str:
    """Where a player finds a result: the file itself, from its second on; or a stretch of it, made for browsers."""
    if card.kind is not None:
        return f"corpus/file?id={quote(card.id, safe='')}#t={card.start:.3f},{card.end:.3f}"
    return f"corpus/cut?id={quote(card.id, safe='')}&start={card.start:.3f}&end={card.end:.3f}"


def film(token: str, name: str, *, label: str) -> str:
    """A player of a film that was made here."""
    return f'<video class="mm-film" controls preload="metadata" playsinline src="results/{quote(token)}/{quote(name)}" aria-label="{html.escape(label)}"></video>'


def downloads(token: str, names: dict[str, str]) -> str:
    """Links: name of a file -> what it is."""
    links = " · ".join(
        f'<a href="results/{quote(token)}/{quote(name)}" download>{html.escape(what)}</a>' for name, what in names.items()
    )
    return f'<p class="mm-downloads">Save: {links}</p>'


def problem(text: str) -> str:
    """What went wrong, and what to do."""
    return f'<div class="mm-message mm-problem" role="alert">{html.escape(text)}</div>'


def note(text: str) -> str:
    """What happened, in words."""
    return f'<div class="mm-message mm-note-box" role="status">{html.escape(text)}</div>'
