"""What the pages tell people to type is right: every block says how it is checked, every command parses, every file exists.

How blocks are marked stands in `tests/page_blocks.py`; those marked to be run are run in `tests/test_pages_run.py`.
"""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from mmssl.components import component_names
from mmssl.config import resolve
from mmssl.types import InputError
from tests.page_blocks import FENCE, PAGES, ROOT, SHELLS, Block, blocks_of, by_tools, what_is_wrong
from tests.page_calls import commands_in, mmssl_calls, wrong_call, wrong_command

LINK = re.compile(r"\]\((?!\w+:|#)([^)#\s]+)")
CONFIG = re.compile(r"\bconfigs/[\w/.-]+\.yaml\b")

by_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


@pytest.fixture
def beside(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which a page's commands would be typed: with the configs, and the files that the page itself gives."""
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    for block in blocks_of(page.read_text(encoding="utf-8")):
        if block.mark == "file":
            (tmp_path / block.word).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / block.word).write_text(block.text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))  # a page's own module, named in a config of the page
    return tmp_path


@by_page
def test_every_block_says_how_it_is_checked(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    blocks = blocks_of(text)
    assert len(re.findall(r"^\s*```", text, re.MULTILINE)) == 2 * len(blocks), (
        "a fence is indented or not closed: it would not be seen"
    )
    wrong = {block.line: why for block in blocks if (why := what_is_wrong(block)) and not (by_tools(page) and not block.mark)}
    assert wrong == {}


@by_page
def test_commands_parse(page: Path, beside: Path) -> None:
    shells = [block for block in blocks_of(page.read_text(encoding="utf-8")) if block.language in SHELLS]
    wrong = {shlex.join(call): why for block in shells for call in mmssl_calls(block.text) if (why := wrong_call(call))}
    for block in shells:
        if block.mark == "parsed" or by_tools(page):
            wrong |= {shlex.join(words): why for words in commands_in(block.text) if (why := wrong_command(words))}
    assert wrong == {}


@by_page
def test_python_blocks_compile(page: Path) -> None:
    for block in blocks_of(page.read_text(encoding="utf-8")):
        if block.language == "python":
            ast.parse(block.text, str(page))


@by_page
def test_pieces_of_configs_hold(page: Path, beside: Path) -> None:
    """A YAML block is a config, or a part of one by its top keys: with the rest filled in it has to resolve."""
    for block in blocks_of(page.read_text(encoding="utf-8")):
        if block.language == "yaml":
            part = yaml.safe_load(block.text)
            whole: dict[str, Any] = yaml.safe_load((ROOT / "configs" / "tiny" / "av_nce.yaml").read_text(encoding="utf-8"))
            for key, value in part.items():
                whole[key] = {**whole[key], **value} if isinstance(value, dict) and key == "train" else value
            try:
                resolve(whole, f"{page.name}, line {block.line}")
            except InputError as error:
                pytest.fail(str(error))


@by_page
def test_files_that_a_page_names_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = {link for link in LINK.findall(FENCE.sub("", text)) if not (page.parent / link).exists()}
    configs = {config for config in CONFIG.findall(text) if "<" not in config and not (ROOT / config).exists()}
    assert links | configs == set()


def test_every_page_is_in_the_navigation_and_every_entry_is_a_page() -> None:
    lines = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:\n")[2]
    named = re.findall(r"^ *- (?:[^:\n]+: )?([\w/.-]+\.md)$", lines, re.MULTILINE)
    docs = ROOT / "docs"
    notebooks = {path.relative_to(docs).with_suffix(".md").as_posix() for path in docs.glob("notebooks/*.ipynb")}
    pages = {path.relative_to(docs).as_posix() for path in docs.rglob("*.md")} | notebooks | {"contributing.md", "changelog.md"}
    assert set(named) == pages and len(named) == len(set(named))


@pytest.mark.parametrize("name", component_names("mmssl.objectives"))
def test_every_objective_has_a_page_with_a_picture(name: str) -> None:
    assert f"(../pictures/views/{name}.jpg)" in (ROOT / "docs" / "objectives" / f"{name}.md").read_text(encoding="utf-8")


def test_examples_in_the_help_parse() -> None:
    wrong: dict[str, str] = {}
    for path in sorted((ROOT / "mmssl" / "commands").glob("[!_]*.py")):
        calls = [call for line in re.findall(r"Example: (.*)", path.read_text(encoding="utf-8")) for call in mmssl_calls(line)]
        wrong |= {} if calls else {path.name: "no line 'Example: mmssl ...'"}
        wrong |= {f"{path.name}: {shlex.join(call)}": why for call in calls if (why := wrong_call(call))}
    assert wrong == {}


def test_first_lines_of_configs_parse() -> None:
    wrong: dict[str, str] = {}
    for path in sorted((ROOT / "configs").glob("*.yaml")):
        lines = path.read_text(encoding="utf-8").splitlines()
        heading = [line.removeprefix("#").strip() for line in lines if line.startswith("#")]
        calls = [call for line in heading for call in mmssl_calls(re.split(r"\s{2,}", line)[0])] if heading else []
        wrong |= {} if calls else {path.name: "its first lines hold no `mmssl train ...` command"}
        wrong |= {f"{path.name}: {shlex.join(call)}": why for call in calls if (why := wrong_call(call))}
    assert wrong == {}


# The readers of pages and commands must themselves be able to see what is wrong.


def test_blocks_and_marks_are_seen() -> None:
    text = "a\n\n```bash\nmmssl demo\n```\n\n<!-- run -->\n\n```python\nx = 1\n```\n<!-- not run: a GPU -->\n```sh\nls\n```\n"
    assert blocks_of(text) == [
        Block(3, "bash", "mmssl demo\n", "", ""),
        Block(9, "python", "x = 1\n", "run", ""),
        Block(13, "sh", "ls\n", "not run", "a GPU"),
    ]


@pytest.mark.parametrize(
    ("language", "mark", "word", "right"),
    [
        ("bash", "", "", False),
        ("python", "", "", False),
        ("text", "", "", True),
        ("yaml", "file", "a.yaml", True),
        ("yaml", "run", "", False),
        ("bash", "run", "slow", True),
        ("bash", "run", "quickly", False),
        ("bash", "parsed", "", False),
        ("bash", "not run", "needs a GPU", True),
    ],
)
def test_marks_that_do_not_do_are_refused(language: str, mark: str, word: str, right: bool) -> None:
    assert bool(what_is_wrong(Block(1, language, "", mark, word))) != right


@pytest.mark.parametrize(
    ("shell", "calls"),
    [
        ("pip install uv && uv run mmssl demo", [["demo"]]),
        ("mmssl train a.yaml \\\n  k=1 --out runs/a  # comment", [["train", "a.yaml", "k=1", "--out", "runs/a"]]),
        ("mmssl doctor --json > doctor.json; mmssl demo | tail", [["doctor", "--json"], ["demo"]]),
        ("torchrun --nproc-per-node 2 -m mmssl train a.yaml", [["train", "a.yaml"]]),
        ("X=1 PYTHONPATH=. mmssl localize run 'my clip.mp4' heat.mp4", [["localize", "run", "my clip.mp4", "heat.mp4"]]),
        ("cd mmssl-runs && ls mmssl", []),
    ],
)
def test_calls_are_found(shell: str, calls: list[list[str]]) -> None:
    assert list(mmssl_calls(shell)) == calls


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("mmssl doctor --jsn", "--jsn"),
        ("mmssl docto", "docto"),
        ("mmssl doctor too much", "unexpected extra argument"),
        ("uv run mmssl train", "Missing argument"),
        ("mmssl doctor --json", ""),
        ("mmssl doctor --help", ""),
        ("mmssl train configs/tiny/l3.yaml train.stepz=2", "'steps'"),
        ("mmssl train configs/none.yaml", "there is no config"),
        ("mmssl train configs/tiny/l3.yaml train.steps=2", ""),
        ("torchrun --nproc-per-nodes 2 -m mmssl train configs/av_nce.yaml", "nproc-per-nodes"),
        ("torchrun --nproc-per-node 2 -m mmssl train configs/av_nce.yaml train.parallel=dpd", "train.parallel"),
        ("torchrun --nproc-per-node 2 train.py", "not -m mmssl"),
        ("python tools/none.py", "there is no script"),
        ("python tools/measure_demo.py work/ --seed 1 --stepz 2", "--stepz"),
        ("python tools/measure_demo.py work/ --seeds 0 1", ""),
        ("uv run python tools/check_walls.py", ""),
        ("uv sync --extra torchcoder", "there is no extra 'torchcoder'"),
        ("pip install 'mmssl[wandb,apps]'", "there is no extra 'apps'"),
        ("bash .ci/run", ""),
        ("bash run.sh", "there is no script"),
        ("ffmpeg -i a.mp4", "nothing here knows"),
    ],
)
def test_wrong_commands_are_refused(command: str, expected: str) -> None:
    (words,) = commands_in(command)
    why = wrong_command(words)
    assert expected in why and bool(expected) == bool(why)
