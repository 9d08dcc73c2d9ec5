"""What narrows a search down, as one SQL condition on the columns of the store. Text of the user is always quoted."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mmssl.types import InputError


@dataclass(frozen=True, slots=True)
class Filter:
    """Conditions that all have to hold; the default lets everything through."""

    path: str | None = None  # pattern for the path under the folder: * stands for any characters, slashes too, ? for one
    labels: Sequence[str] = ()  # names of the folders that files lie in; any of them
    after: float | None = None  # seconds: windows that begin then or later
    before: float | None = None  # seconds: windows that end then or earlier
    min_duration: float | None = None  # seconds, of the file
    max_duration: float | None = None
    where: str | None = None  # SQL on id, path, label, duration, start, end, text

    def sql(self) -> str | None:
        """One condition; None where nothing is asked.

        Raises:
            InputError: a time that is none, or a range that lets nothing through.
        """
        self._check()
        parts: list[str] = []
        if self.path is not None:
            parts.append(f"path LIKE {quoted(like(self.path))}")
        if self.labels:
            parts.append(f"label IN ({', '.join(quoted(label) for label in self.labels)})")
        limits = (("start >=", self.after), ('"end" <=', self.before), ("duration >=", self.min_duration))
        parts += [f"{words} {value!r}" for words, value in (*limits, ("duration <=", self.max_duration)) if value is not None]
        if self.where is not None and self.where.strip():
            parts.append(f"({self.where})")
        return " AND ".join(parts) or None

    def _check(self) -> None:
        for name in ("after", "before", "min_duration", "max_duration"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value >= 0.0):
                raise InputError(f"--{name.replace('_', '-')} is {value}; give seconds, 0 or more")
        for low, high in (("after", "before"), ("min_duration", "max_duration")):
            least, most = getattr(self, low), getattr(self, high)
            if least is not None and most is not None and least > most:
                raise InputError(
                    f"--{low.replace('_', '-')} {least:g} is greater than --{high.replace('_', '-')} {most:g}; nothing could pass"
                )


EVERYTHING = Filter()


def quoted(text: str) -> str:
    """A SQL string."""
    return "'" + text.replace("'", "''") + "'"


def like(pattern: str) -> str:
    """A pattern of * and ? as one of SQL's LIKE, in which every other character stands for itself."""
    plain = pattern.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return plain.replace("*", "%").replace("?", "_")


def one_of(column: str, values: Iterable[str]) -> str:
    """`column IN (...)`."""
    return f"{column} IN ({', '.join(quoted(value) for value in values)})"
