"""What the pages tell people to type is right: every command parses, every file exists, what is marked to be run is run.

A fenced block is marked by the line `<!-- run -->` before it. The marked bash blocks of a page are run one after the other in one
empty folder, as `bash -euo pipefail`, with the configs of this project in it; `uv run X` runs X of this environment. Marked python
blocks run in the same folder.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer.main

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^(?P<mark><!-- run -->\n+)?```(?P<language>\w*)[^\n]*\n(?P<text>.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?:|mailto:|#)([^)#\s]+)")
CONFIG = re.compile(r"\bconfigs/[\w/.-]+\.yaml\b")
SHELLS = ("bash", "sh", "shell", "console")
ENDS_A_COMMAND = re.compile(r"&&|\|\||[;|>&<]")

by_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


class Block(NamedTuple):
    language: str
    text: str
    marked: bool


def blocks_of(text: str) -> list[Block]:
    return [Block(m["language"], m["text"], bool(m["mark"])) for m in FENCE.finditer(text)]


def commands_in(shell: str) -> Iterator[list[str]]:
    """The arguments of each call of `mmssl` in shell text."""
    for line in shell.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=";|&<>")
        lexer.whitespace_split = True
        lexer.commenters = "#"
        call: list[str] = []
        for word in [*lexer, ";"]:
            if ENDS_A_COMMAND.match(word):
                if "mmssl" in call[:6]:  # perhaps after `uv run`, variables, or `torchrun --nproc-per-node 2 -m`
                    yield call[call.index("mmssl") + 1 :]
                call = []
            else:
                call.append(word)


@cache
def cli() -> Any:
    from mmssl.cli import build_app

    return typer.main.get_command(build_app())


def parse(arguments: list[str]) -> str:
    """Give the arguments to the command line's own parser, run nothing; why they are wrong, or an empty string."""
    try:
        with cli().make_context("mmssl", list(arguments)) as context:
            group, rest = cli(), list(arguments)
            while hasattr(group, "commands"):  # down to the command that does something: mmssl probe knn
                name, group, rest = group.resolve_command(context, rest)
                if not hasattr(group, "commands"):
                    group.make_context(name, rest, parent=context).close()
    except SystemExit as leave:  # --help
        return "" if leave.code in (0, None) else f"exit status {leave.code}"
    except Exception as error:
        # typer brings its own copy of click, whose exceptions have no public name; theirs all have this method.
        if not hasattr(error, "format_message"):
            if type(error).__name__ == "Exit" and getattr(error, "exit_code", 1) == 0:  # --help again
                return ""
            raise
        return error.format_message()  # pyright: ignore[reportAttributeAccessIssue]
    return ""


@by_page
def test_commands_parse(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    calls = [call for block in blocks_of(page.read_text()) if block.language in SHELLS for call in commands_in(block.text)]
    assert {shlex.join(call): why for call in calls if (why := parse(call))} == {}


def test_examples_in_the_help_parse() -> None:
    wrong: dict[str, str] = {}
    for path in sorted((ROOT / "mmssl" / "commands").glob("[!_]*.py")):
        calls = [call for line in re.findall(r"Example: (.*)", path.read_text()) for call in commands_in(line)]
        wrong |= {} if calls else {path.name: "no line 'Example: mmssl ...'"}
        wrong |= {f"{path.name}: {shlex.join(call)}": why for call in calls if (why := parse(call))}
    assert wrong == {}


def test_first_lines_of_configs_parse() -> None:
    wrong: dict[str, str] = {}
    for path in sorted((ROOT / "configs").glob("*.yaml")):
        heading = [line.removeprefix("#").strip() for line in path.read_text().splitlines() if line.startswith("#")]
        calls = [call for line in heading for call in commands_in(re.split(r"\s{2,}", line)[0])] if heading else []
        wrong |= {} if calls else {path.name: "its first lines hold no `mmssl train ...` command"}
        wrong |= {f"{path.name}: {shlex.join(call)}": why for call in calls if (why := parse(call))}
    assert wrong == {}


@by_page
def test_files_that_a_page_names_exist(page: Path) -> None:
    text = page.read_text()
    links = {link for link in LINK.findall(text) if not (page.parent / link).exists()}
    configs = {config for config in CONFIG.findall(text) if "<" not in config and not (ROOT / config).exists()}
    assert links | configs == set()


def test_the_first_screen_is_two_commands() -> None:
    first_screen = "\n".join((ROOT / "README.md").read_text().splitlines()[:40])
    lines = [line.split("#")[0].strip() for block in blocks_of(first_screen) for line in block.text.splitlines()]
    assert "pip install uv && uv run mmssl demo" in lines
    assert "uv run pytest" in lines


def test_ci_runs_the_commands_of_the_readme() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    assert re.search(r"^phase \"tests\" uv run pytest\b", script, re.MULTILINE)


@by_page
def test_python_blocks_compile(page: Path) -> None:
    for block in blocks_of(page.read_text()):
        if block.language == "python":
            compile(block.text, str(page), "exec")


@by_page
def test_marked_blocks_run(page: Path, tmp_path: Path) -> None:
    marked = [block for block in blocks_of(page.read_text()) if block.marked]
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    folder = Path(sys.executable).parent
    environment = os.environ | {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", "COLUMNS": "130", "PYTHONPATH": str(ROOT)}
    for block in marked:
        assert block.language in (*SHELLS, "python"), f"a block of {block.language or 'no language'} cannot be run"
        shell = ["bash", "-euo", "pipefail", "-c", f'uv() {{ shift; "$@"; }}\n{block.text}']
        command = [sys.executable, "-c", block.text] if block.language == "python" else shell
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, f"{block.text}\n--- stdout\n{done.stdout[-3000:]}\n--- stderr\n{done.stderr[-3000:]}"


# The reader of pages must itself be able to see what is wrong.


def test_blocks_and_marks_are_seen() -> None:
    text = "a\n\n```bash\nmmssl demo\n```\n\n<!-- run -->\n```python\nx = 1\n```\n"
    assert blocks_of(text) == [Block("bash", "mmssl demo\n", False), Block("python", "x = 1\n", True)]


@pytest.mark.parametrize(
    "shell, calls",
    [
        ("pip install uv && uv run mmssl demo", [["demo"]]),
        ("mmssl train a.yaml \\\n  k=1 --out runs/a  # comment", [["train", "a.yaml", "k=1", "--out", "runs/a"]]),
        ("mmssl doctor --json > doctor.json; mmssl demo | tail", [["doctor", "--json"], ["demo"]]),
        ("torchrun --nproc-per-node 2 -m mmssl train a.yaml", [["train", "a.yaml"]]),
        ("mmssl localize run 'my clip.mp4' heat.mp4", [["localize", "run", "my clip.mp4", "heat.mp4"]]),
        ("cd mmssl-runs && ls", []),
    ],
)
def test_calls_are_found(shell: str, calls: list[list[str]]) -> None:
    assert list(commands_in(shell)) == calls


@pytest.mark.parametrize(
    "arguments, expected",
    [
        (["doctor", "--jsn"], "--jsn"),
        (["docto"], "docto"),
        (["doctor", "too", "much"], "unexpected extra argument"),
        (["train"], "Missing argument"),
        (["doctor", "--json"], ""),
        (["doctor", "--help"], ""),
    ],
)
def test_wrong_calls_are_refused(arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    why = parse(arguments)
    assert expected in why and bool(expected) == bool(why)
