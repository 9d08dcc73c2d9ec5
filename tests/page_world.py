"""Running what the pages tell people to type, made small: trainings take two steps of four rows, folders hold a few short clips.

Simple lines (calls of mmssl, with `&&` and `>`) run in this process, because starting a new one costs seconds; anything else runs in
bash, where `mmssl` and `-m mmssl` are this module.
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.page_blocks import ROOT, Block

SIMPLE = re.compile(r"^\s*(?:(?:PYTHONPATH=\. )?(?:uv run )?mmssl [^|;<`$()]*)?(?:#.*)?$")
STEPS, ROWS = 2, 4
SMALLER = {
    "toyworld": ["--clips", "4"],
    "evaluate": ["--clips", "8"],
    "report": ["--clips", "8"],
    "bench": ["--quick", "--reps", "1"],
}
TRAINS, VIEWS = "train", "view"


def smaller(arguments: list[str]) -> list[str]:
    """The same call of mmssl, at a size for tests: what is appended overrules what stands before."""
    if not arguments or "--help" in arguments:
        return arguments
    name, *rest = arguments
    if name not in (TRAINS, VIEWS):
        return [*arguments, *SMALLER.get(name, ())]
    import yaml

    config = next((word for word in rest if word.endswith((".yaml", ".yml"))), None)
    streams = yaml.safe_load(Path(config).read_text(encoding="utf-8"))["streams"] if config and Path(config).is_file() else []
    given = [f"train.steps={STEPS}", "train.warmup=0", "train.workers=0", f"train.eval_rows={ROWS}", "train.compile=false"]
    # What is held out stays as the config has it: a reader's folder is small, too.
    given += [f"streams.{number}.batch={ROWS}" for number in range(len(streams))]
    return [*arguments, *given]


def ours(text: str) -> str:
    """Text in which the command line is started by way of `smaller`."""
    return text.replace("-m mmssl ", "-m tests.page_world ")


def run_block(block: Block, folder: Path, names: dict[str, Any]) -> None:
    """Run one block in `folder`, the current one. Python blocks of a page share `names`.

    Raises:
        AssertionError: a command failed; the text holds what it said.
    """
    if block.mark == "file":
        (folder / block.word).parent.mkdir(parents=True, exist_ok=True)
        (folder / block.word).write_text(ours(block.text), encoding="utf-8")
    elif block.language == "python":
        exec(compile("\n" * block.line + block.text, "page", "exec"), names)
    elif all(SIMPLE.match(line) for line in _lines(block.text)):
        for line in _lines(block.text):
            for command in line.split("&&"):
                _run_here(command)
    else:
        _run_in_bash(block.text, folder)


def _lines(shell: str) -> list[str]:
    return shell.replace("\\\n", " ").splitlines()


def _run_here(command: str) -> None:
    from mmssl.cli import main

    words = shlex.split(command, comments=True)
    if not words:
        return
    words = words[words.index("mmssl") :]  # PYTHONPATH=. is so for all that a page runs
    with contextlib.ExitStack() as stack:
        if ">" in words:
            place = words.index(">")
            stack.enter_context(
                contextlib.redirect_stdout(stack.enter_context(Path(words[place + 1]).open("w", encoding="utf-8")))
            )
            words = words[:place]
        try:
            main(smaller(words[1:]))
        except SystemExit as leave:
            assert leave.code in (0, None), f"exit status {leave.code} of: {command.strip()}"


def _run_in_bash(text: str, folder: Path) -> None:
    programs = folder / ".bin"
    programs.mkdir(exist_ok=True)
    call = f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m tests.page_world "$@"\n'
    (programs / "mmssl").write_text(call, encoding="utf-8")
    (programs / "mmssl").chmod(0o755)
    path = os.pathsep.join([str(programs), str(Path(sys.executable).parent), os.environ["PATH"]])
    search = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", f'uv() {{ shift; "$@"; }}\n{ours(text)}'],
        cwd=folder,
        env=os.environ | {"PATH": path, "COLUMNS": "130", "PYTHONPATH": search},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, f"{text}\n--- stdout\n{done.stdout[-3000:]}\n--- stderr\n{done.stderr[-3000:]}"


def make_workplace(folder: Path, *, clips: Path, run: Path | None) -> Path:
    """A folder as the pages suppose it: configs/, clips/, text/ and, unless the page trains it itself, runs/first."""
    (folder / "text").mkdir(parents=True)
    for name in ("one", "two", "three", "four", "five"):
        sentences = [
            f"The {name} stone falls on the {other} floor and rings. It stops there."
            for other in ("red", "green", "blue", "grey")
        ]
        (folder / "text" / f"{name}.txt").write_text("\n\n".join(sentences), encoding="utf-8")
    (folder / "configs").symlink_to(ROOT / "configs")
    (folder / "clips").symlink_to(clips)
    if run is not None:
        shutil.copytree(run, folder / "runs" / "first")
    return folder


if __name__ == "__main__":
    from mmssl.cli import main

    main(smaller(sys.argv[1:]))
