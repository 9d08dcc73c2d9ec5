"""The blocks of the pages that are marked to be run are run, page by page, in a folder as the pages suppose it (`tests/page_world.py`)."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.page_blocks import PAGES, ROOT, Block, blocks_of
from tests.page_world import make_workplace, run_block, smaller

OF_PAGE = {page: [b for b in blocks_of(page.read_text(encoding="utf-8")) if b.mark in ("run", "file")] for page in PAGES}


def with_blocks(slow: bool) -> Any:
    pages = [
        page
        for page, blocks in OF_PAGE.items()
        if any(block.mark == "run" and (block.word == "slow") == slow for block in blocks)
    ]
    return pytest.mark.parametrize("page", pages, ids=lambda page: str(page.relative_to(ROOT)))


@pytest.fixture(scope="session")
def clips(toy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of a few clips with sound and captions; one of them has a name of its own."""
    folder = tmp_path_factory.mktemp("pages") / "clips"
    folder.mkdir()
    for path in sorted(toy.iterdir()):
        if path.suffix in (".mp4", ".srt"):
            shutil.copy(path, folder)
    for suffix in (".mp4", ".srt"):
        next(folder.glob(f"*{suffix}")).rename(folder / f"holiday{suffix}")
    return folder


@pytest.fixture(scope="session")
def trained(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of av_nce, hardly trained, whose data are clips/ of the folder that it is used in."""
    from mmssl.config import load_config
    from mmssl.run import start_run

    place = make_workplace(tmp_path_factory.mktemp("first"), clips=clips, run=None)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        _, config, *overrides = smaller(["train", "configs/tiny/av_nce.yaml", "streams.0.data=clips/"])
        start_run(load_config(Path(config), overrides), Path("runs/first"), display=False)
    return place / "runs" / "first"


def run_page(page: Path, *, slow: bool, folder: Path, request: pytest.FixtureRequest) -> None:
    blocks = [block for block in OF_PAGE[page] if slow or block.word != "slow"]
    own = any("--out runs/first" in block.text for block in blocks)
    make_workplace(folder, clips=request.getfixturevalue("clips"), run=None if own else request.getfixturevalue("trained"))
    names: dict[str, Any] = {"__name__": "__main__"}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("PYTHONPATH", os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")]))
        patch.syspath_prepend(str(folder))
        for block in blocks:
            run_block(block, folder, names)


@with_blocks(slow=False)
def test_marked_blocks_run(page: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    run_page(page, slow=False, folder=tmp_path / "here", request=request)


@pytest.mark.slow
@with_blocks(slow=True)
def test_slow_marked_blocks_run(page: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    run_page(page, slow=True, folder=tmp_path / "here", request=request)


# What runs blocks must itself see what fails.


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("python", "assert 1 == 2\n"),
        ("bash", "mmssl localize no-run a.mp4 b.mp4\n"),  # in this process
        ("bash", "mmssl tasks no-task | cat\n"),  # in bash
        ("bash", "false\ntrue\n"),
    ],
)
def test_blocks_that_fail_are_seen(language: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AssertionError):
        run_block(Block(1, language, text, "run", ""), tmp_path, {})


def test_blocks_do_what_they_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    run_block(Block(1, "text", "seven", "file", "a/b.txt"), tmp_path, names)
    run_block(
        Block(1, "bash", "mmssl tasks --json > tasks.json  # a list\n\nuv run mmssl tasks l3 && mmssl tasks avts\n", "run", ""),
        tmp_path,
        names,
    )
    run_block(
        Block(1, "python", "import json, pathlib\nkept = json.loads(pathlib.Path('tasks.json').read_text())\n", "run", ""),
        tmp_path,
        names,
    )
    run_block(Block(1, "python", "kept.append(pathlib.Path('a/b.txt').read_text())\n", "run", ""), tmp_path, names)
    assert {"l3", "avts"} <= {entry["name"] for entry in names["kept"][:-1]} and names["kept"][-1] == "seven"
    run_block(Block(1, "bash", "cat a/b.txt | tr s t > c.txt\n", "run", ""), tmp_path, names)
    assert (tmp_path / "c.txt").read_text() == "teven"


def test_calls_are_made_smaller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mmssl.config import load_config

    monkeypatch.chdir(ROOT)
    _, config, *overrides = smaller(["train", "configs/joint.yaml", "train.steps=90"])
    made = load_config(Path(config), overrides).resolved
    assert made["train"]["steps"] == 2 and [stream["batch"] for stream in made["streams"]] == [4, 4, 4]
    assert smaller(["toyworld", "world/", "--clips", "100"])[-2:] == ["--clips", "4"]
    assert smaller(["index", "clips/"]) == ["index", "clips/"]
