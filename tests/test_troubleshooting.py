"""The messages that the page on troubleshooting quotes are messages of the code."""

from __future__ import annotations

import ast
import re
from functools import cache

import pytest

from tests.page_blocks import ROOT, blocks_of

PAGE = ROOT / "docs" / "troubleshooting.md"
VALUE = "\0"  # in a message of the code: what is filled in
LEAST = 12  # letters of a message that must be fixed text


@cache
def messages() -> tuple[str, ...]:
    """Every text in the package, with `VALUE` where an f-string fills something in."""
    found = []
    for path in sorted((ROOT / "mmssl").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
            elif isinstance(node, ast.JoinedStr):
                parts = [part.value if isinstance(part, ast.Constant) else VALUE for part in node.values]
                found.append("".join(map(str, parts)))
    return tuple(found)


def is_said(quoted: str) -> bool:
    """Whether some message of the code holds `quoted`, in which each … stands for values and signs, never for words."""
    fixed = quoted.removeprefix("warning: ").split("…")
    values = rf"[^A-Za-z]*?(?:{VALUE}[^A-Za-z]*?)+"
    pattern = re.compile(values.join(map(re.escape, fixed)))
    return sum(map(len, fixed)) >= LEAST and any(pattern.search(text) for text in messages())


QUOTED = [
    line for block in blocks_of(PAGE.read_text(encoding="utf-8")) if block.language == "text" for line in block.text.splitlines()
]


@pytest.mark.parametrize("quoted", QUOTED, ids=lambda text: text[:40])
def test_quoted_messages_are_messages_of_the_code(quoted: str) -> None:
    assert is_said(quoted), quoted


def test_reasons_in_the_table_are_given_by_views() -> None:
    reasons = [
        reason
        for line in PAGE.read_text(encoding="utf-8").splitlines()
        if line.startswith("| `")
        for reason in re.findall(r"`([^`]+)`", line.split("|")[1])
    ]
    assert len(reasons) >= 6
    for reason in reasons:
        pattern = ".*".join(map(re.escape, reason.split("…")))
        assert any(re.fullmatch(pattern, text, re.DOTALL) for text in messages()), reason


# The reader of messages must itself see what is wrong.


@pytest.mark.parametrize(
    ("quoted", "said"),
    [
        ("there is no config …; the ones that come with mmssl are in configs/", True),
        ("there is no config …; the ones that came with mmssl are in configs/", False),
        ("there is no config … are in configs/", False),  # … hides words of the code's
        ("… is …", False),
    ],
)
def test_invented_messages_are_refused(quoted: str, said: bool) -> None:
    assert is_said(quoted) == said
