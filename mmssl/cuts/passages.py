"""Ways to cut text: the sentences of a source, and stretches of them that fit a length.

The sentences of a section of a document are its cues. The captions of a film are lines without full stops as often as not, so there a
sentence is a run of captions (`sentences_of`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from mmssl.types import InputError, InputSpec, Plan, Source, Text, Views
from mmssl.vocabulary import SHORTEST

PIECES = 1.4  # tokens that a word makes on average, by which words are counted against a length in tokens before it is cut to fit
LONGEST_SENTENCE = 20  # words after which a run of captions ends: spoken sentences are seldom longer
ENDS = (".", "!", "?", "…", "。", "！", "？")


def sentences_of(source: Source, pause: float = 0.3) -> tuple[str, ...]:
    """The sentences of a source, in order.

    Of a text they are its cues. Of a film, captions in order of time are joined as long as less than `pause` seconds lie between them,
    the joined text does not end like a sentence, and it has fewer than `LONGEST_SENTENCE` words; with `pause` 0 each caption is one.
    """
    if source.video is None and source.audio is None:
        return tuple(cue.text for cue in source.cues)
    sentences: list[str] = []
    ended = float("-inf")
    for cue in source.cues:
        open_ended = bool(sentences) and not sentences[-1].rstrip("\"'”’)»").endswith(ENDS)
        if open_ended and cue.start - ended < pause and len(sentences[-1].split()) < LONGEST_SENTENCE:
            sentences[-1] += f" {cue.text}"
        else:
            sentences.append(cue.text)
        ended = max(ended, cue.end)
    return tuple(sentences)


def draw_passage(sentences: tuple[str, ...], length: int, rng: np.random.Generator, *, least: int = 1) -> tuple[str, ...]:
    """Consecutive sentences from a random one on, as many as `length` tokens are likely to hold, at least `least` of them.

    Raises `ValueError` where there are fewer than `least`.
    """
    if len(sentences) < least:
        raise ValueError(f"{len(sentences)} sentences, at least {least} are needed")
    room = length / PIECES
    counts = np.array([len(sentence.split()) for sentence in sentences])
    # Starts from which the rest would not fill the length are left out where there are others: the last sentences stand at the end of
    # many passages already.
    rest = counts[::-1].cumsum()[::-1]
    last = max(0, int(np.flatnonzero(rest >= min(room, rest[0]))[-1]))
    start = int(rng.integers(min(last, len(sentences) - least) + 1))
    reach = counts[start:].cumsum()
    count = max(least, int(np.searchsorted(reach, room, side="right")))
    return sentences[start : start + count]


def resolve_text(length: int | None, tokenizer: str | None, spec: InputSpec) -> tuple[int, str]:
    """Length and tokenizer, filled in from the encoder's. Raises `InputError` where neither says, or where they differ."""
    length = length or spec.tokens
    if not length:
        raise InputError("the text encoder takes any length, so views.length must say how many tokens, for example 128")
    if length < SHORTEST or (spec.tokens and length > spec.tokens):
        raise InputError(f"views.length is {length} tokens; this encoder takes {SHORTEST} to {spec.tokens or 'any number'}")
    name = tokenizer or spec.tokenizer
    if not name:
        raise InputError("the text encoder names no tokenizer, so views.tokenizer must")
    if spec.tokenizer and name != spec.tokenizer:
        raise InputError(f"views.tokenizer is {name} but the text encoder has {spec.tokenizer}; leave views.tokenizer out")
    return length, name


def check_pause(pause: float) -> None:
    """Raise `InputError` for a pause below 0."""
    if pause < 0.0:
        raise InputError(f"views.pause is {pause}; give seconds >= 0 (0: each caption is a sentence)")


def too_few(sentences: tuple[str, ...], least: int) -> str | None:
    """ "no text", "fewer than 2 sentences", or None."""
    if not sentences:
        return "no text"
    return None if len(sentences) >= least else f"fewer than {least} sentences"


@dataclass(frozen=True, slots=True, kw_only=True)
class PassageViews(Views):
    """A stretch of consecutive sentences or captions as one text, from any of them on. Request `text`, (1, length) token ids.

    None in `length` and `tokenizer` stands for what the encoder was built for (`resolve`).
    """

    length: int | None = None  # tokens
    tokenizer: str | None = None  # the text encoder's, by path or name

    def resolve(self, text: InputSpec) -> PassageViews:
        """These views with every None filled in. Raises `InputError` as `resolve_text` does."""
        length, tokenizer = resolve_text(self.length, self.tokenizer, text)
        return replace(self, length=length, tokenizer=tokenizer)

    def reject(self, source: Source) -> str | None:
        """ "no text"."""
        return too_few(tuple(cue.text for cue in source.cues), 1)

    def plan(self, source: Source, rng: np.random.Generator) -> Plan:
        """Draw the passage."""
        if self.length is None or self.tokenizer is None:
            raise InputError(f"{self} still has a None; call resolve with the encoder's spec first")
        passage = draw_passage(tuple(cue.text for cue in source.cues), self.length, rng)
        return Plan({"text": Text((" ".join(passage),), self.length, self.tokenizer)})
