"""The fenced blocks of the pages, and the marks before them that say how each is checked.

A block of commands or of Python carries an HTML comment on the line before it, which readers do not see:

    <!-- run -->              it runs, at a small size (`tests/test_pages_run.py`)
    <!-- run: slow -->        likewise, among the slow tests
    <!-- parsed: WHY -->      not run, for that reason; every command of it is understood and its arguments are right
    <!-- not run: WHY -->     not run, for that reason; its calls of mmssl are right all the same
    <!-- file: NAME -->       the content of a file that later blocks of the page use

Blocks of docs/results/ need no mark: they tell how a figure was measured, which took long, and they are parsed.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(
    r"^(?:<!-- (?P<mark>run|file|parsed|not run)(?:: (?P<word>.*?))? -->\n+)?```(?P<language>\w*)[^\n]*\n(?P<text>.*?)^```",
    re.MULTILINE | re.DOTALL,
)
SHELLS = ("bash", "sh", "shell", "console")
MARKED = (*SHELLS, "python")  # languages whose blocks need a mark


class Block(NamedTuple):
    """One fenced block."""

    line: int  # of the opening fence, from 1
    language: str
    text: str
    mark: str  # run, file, parsed, not run; empty where there is none
    word: str  # what stands behind the mark's colon


def blocks_of(text: str) -> list[Block]:
    """The blocks of a page, in order."""
    return [
        Block(text.count("\n", 0, m.start("language")) + 1, m["language"], m["text"], m["mark"] or "", m["word"] or "")
        for m in FENCE.finditer(text)
    ]


def by_tools(page: Path) -> bool:
    """Whether a page tells measurements, whose commands are parsed without a mark."""
    return page.is_relative_to(ROOT / "docs" / "results")


def what_is_wrong(block: Block) -> str:
    """Why a block's mark does not do, or an empty string."""
    if block.language not in MARKED:
        return "" if block.mark in ("", "file") else f"a block of {block.language or 'no language'} cannot be {block.mark}"
    if not block.mark:
        return "has no mark; put <!-- run -->, <!-- parsed: WHY -->, <!-- not run: WHY --> or <!-- file: NAME --> before it"
    if block.mark == "run":
        return "" if block.word in ("", "slow") else f"run is followed by 'slow' or nothing, not by {block.word!r}"
    return "" if block.word.strip() else f"the mark {block.mark!r} needs a word behind a colon"
