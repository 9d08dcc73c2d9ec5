"""ROUGE: how much of a text's words another text holds.

Lin, "ROUGE: A Package for Automatic Evaluation of Summaries", ACL 2004 workshop. Words are lower-cased runs of letters and digits; no
stemming.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

_WORD = re.compile(r"[^\W_]+")

# English words that carry grammar and little content (a common short list).
STOP_WORDS = frozenset(
    """a about above after again all also am an and any are as at be because been before being below between both but by can could did do
    does doing down during each few for from further had has have having he her here hers him his how i if in into is it its just me more
    most my no nor not now of off on once only or other our out over own s same she should so some such t than that the their them then
    there these they this those through to too under until up very was we were what when where which while who whom why will with would
    you your""".split()  # noqa: SIM905 - a list of words is read as words
)


def words_of(text: str, *, stop: frozenset[str] = frozenset()) -> list[str]:
    """The words of a text, less those of `stop`."""
    return [word for word in _WORD.findall(text.lower()) if word not in stop]


def rouge_n(candidate: Sequence[str], reference: Sequence[str], n: int = 1, *, unique: bool = False) -> float:
    """F-measure of the n-grams that two lists of words share, 0 to 1; `unique` counts each n-gram once a side."""
    first, second = _grams(candidate, n, unique), _grams(reference, n, unique)
    return f_measure((first & second).total(), first.total(), second.total())


def rouge_l(candidate: Sequence[str], reference: Sequence[str]) -> float:
    """F-measure of the longest common subsequence of two lists of words, 0 to 1."""
    row = [0] * (len(reference) + 1)
    for word in candidate:
        before = 0  # the cell above and to the left
        for place, other in enumerate(reference, start=1):
            before, row[place] = row[place], before + 1 if word == other else max(row[place], row[place - 1])
    return f_measure(row[-1], len(candidate), len(reference))


def f_measure(shared: int, first: int, second: int) -> float:
    """Harmonic mean of precision and recall, 2 shared / (first + second); 0 where both sides are empty."""
    return 2.0 * shared / (first + second) if first + second else 0.0


def _grams(words: Sequence[str], n: int, unique: bool) -> Counter[tuple[str, ...]]:
    grams = [tuple(words[place : place + n]) for place in range(len(words) - n + 1)]
    return Counter(set(grams) if unique else grams)
