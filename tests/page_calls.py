"""Commands in shell text, given to the parsers that they would reach: nothing is run, and what is wrong is said."""

from __future__ import annotations

import argparse
import contextlib
import io
import re
import runpy
import shlex
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import typer.main

from tests.page_blocks import ROOT

ENDS_A_COMMAND = re.compile(r"&&|\|\||[;|>&<]")
ASSIGNS = re.compile(r"[A-Za-z_]\w*=")
TAKEN_AS_IT_IS = (
    "cd",
    "cp",
    "echo",
    "export",
    "git",
    "ls",
    "mkdir",
    "tar",
    "sbatch",
    "srun",
    "scancel",
    "tensorboard",
    "nvidia-smi",
)


class _Parsed(BaseException):
    """A tool's arguments were right. Not an Exception, so that no tool takes it for its own."""


def commands_in(shell: str) -> Iterator[list[str]]:
    """The words of each command in shell text: what `&&`, `;`, `|` and redirections part, without variables set before it."""
    for line in shell.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=";|&<>")
        lexer.whitespace_split = True
        lexer.commenters = "#"
        call: list[str] = []
        redirected = False
        for word in [*lexer, ";"]:
            if ENDS_A_COMMAND.match(word):
                if call:
                    yield call
                call, redirected = [], word[0] in "<>"
            elif redirected:
                redirected = False  # the file's name
            elif call or not ASSIGNS.match(word):
                call.append(word)


def mmssl_calls(shell: str) -> Iterator[list[str]]:
    """The arguments of each call of mmssl: by its name, `uv run mmssl`, or `-m mmssl` under python or torchrun."""
    for words in commands_in(shell):
        place = next((i for i, word in enumerate(words[:12]) if word == "mmssl"), None)
        if place is not None and (place == 0 or words[place - 1] in ("run", "-m", "--no-sync")):
            arguments = words[place + 1 :]
            before = ["", *arguments]
            # A variable of the shell stands for arguments, unless it is an option's value.
            yield [w for w, b in zip(arguments, before, strict=False) if b.startswith("--") or not re.fullmatch(r"\$(@|\w+)", w)]


def wrong_command(words: list[str]) -> str:
    """Why a command cannot be right, or an empty string. Files are looked for in the current folder."""
    program, *rest = words
    if program == "mmssl":
        return wrong_call(rest)
    if program == "uv" or (program == "pip" and rest[:1] == ["install"]):
        return wrong_uv(rest) if program == "uv" else _wrong_extras(rest)
    if program == "python":
        return wrong_call(rest[2:]) if rest[:2] == ["-m", "mmssl"] else wrong_tool(rest)
    if program == "torchrun":
        return wrong_torchrun(rest)
    if program == "bash":
        return "" if (ROOT / rest[0]).is_file() or Path(rest[0]).is_file() else f"there is no script {rest[0]}"
    return "" if program in TAKEN_AS_IT_IS or program in _own_programs() else f"nothing here knows the program {program!r}"


@cache
def cli() -> Any:
    """The command line, as click sees it."""
    from mmssl.cli import build_app

    return typer.main.get_command(build_app())


def wrong_call(arguments: list[str]) -> str:
    """What mmssl's own parser says of these arguments, and of the config that they name."""
    try:
        with cli().make_context("mmssl", list(arguments)) as context:
            name, command, rest = cli().resolve_command(context, list(arguments))
            while hasattr(command, "commands"):  # a group: mmssl search query
                context = command.make_context(name, list(rest), parent=context)
                name, command, rest = command.resolve_command(context, list(rest))
            with command.make_context(name, rest, parent=context) as leaf:
                return wrong_config(leaf.params)
    except SystemExit as leave:  # --help
        return "" if leave.code in (0, None) else f"exit status {leave.code}"
    except Exception as error:
        # typer brings its own copy of click, whose exceptions have no public name; theirs all have this method.
        if not hasattr(error, "format_message"):
            if type(error).__name__ == "Exit" and getattr(error, "exit_code", 1) == 0:  # --help again
                return ""
            raise
        return error.format_message()  # pyright: ignore[reportAttributeAccessIssue]


def wrong_config(params: dict[str, Any]) -> str:
    """What is wrong with the config that a call names, with its overrides."""
    if "overrides" not in params:
        return ""
    from mmssl.config import load_config
    from mmssl.types import InputError

    path = Path(params["config"])
    try:
        load_config(path if path.is_file() else ROOT / path, params["overrides"] or [])
    except InputError as error:
        return str(error)
    return ""


def wrong_uv(words: list[str]) -> str:
    """`uv run COMMAND` is as wrong as its command; `uv sync` by its extras."""
    if words[:1] != ["run"]:
        return _wrong_extras(words)
    inner = [word for word in words[1:] if word != "--no-sync"]
    return wrong_command(inner)


def _wrong_extras(words: list[str]) -> str:
    named = [words[i + 1] for i, word in enumerate(words[:-1]) if word == "--extra"]
    named += [extra for word in words for found in re.findall(r"^mmssl\[([\w,]+)\]$", word) for extra in found.split(",")]
    with (ROOT / "pyproject.toml").open("rb") as file:
        known = tomllib.load(file)["project"]["optional-dependencies"]
    return "".join(f"there is no extra {name!r}" for name in named if name not in known)


@cache
def _own_programs() -> set[str]:
    return {path.name for path in Path(sys.executable).parent.iterdir()}  # ruff, pytest, mkdocs, pre-commit ...


def wrong_torchrun(words: list[str]) -> str:
    """What torchrun's parser says, and mmssl's of the call that it starts."""
    from torch.distributed.run import get_args_parser  # noqa: TID251 - its parser only

    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            given = get_args_parser().parse_args(words)
    except SystemExit:
        return said.getvalue().strip().splitlines()[-1]
    if not (given.module and given.training_script == "mmssl"):
        return f"torchrun starts {given.training_script}, not -m mmssl"
    return wrong_call(given.training_script_args)


def wrong_tool(words: list[str]) -> str:
    """What a script of tools/ says of its arguments: it is started, and stopped as soon as it has read them."""
    script = ROOT / words[0]
    if script.parent.name != "tools" or not script.is_file():
        return f"there is no script {words[0]}"
    if "parse_args" not in script.read_text(encoding="utf-8") and "arguments(" not in script.read_text(encoding="utf-8"):
        return f"{script.name} takes no arguments" if words[1:] else ""
    said = io.StringIO()
    try:
        with _as_started(script, words[1:]), contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            runpy.run_path(str(script), run_name="__main__")
    except _Parsed:
        return ""
    except SystemExit as leave:
        return (said.getvalue().strip().splitlines() or [f"exit status {leave.code}"])[-1]
    return f"{script.name} ended without reading its arguments"


@contextlib.contextmanager
def _as_started(script: Path, arguments: list[str]) -> Iterator[None]:
    """The world as a script finds it, with parsers that stop once they are content; put back afterwards."""
    real = argparse.ArgumentParser.parse_args
    before, argv, modules = list(sys.path), sys.argv, set(sys.modules)

    def parse(self: argparse.ArgumentParser, *given: Any) -> Any:
        real(self, *given)
        raise _Parsed

    argparse.ArgumentParser.parse_args = parse  # type: ignore[method-assign]  # pyright: ignore[reportAttributeAccessIssue]
    sys.argv, sys.path[:0] = [str(script), *arguments], [str(script.parent)]
    try:
        yield
    finally:
        argparse.ArgumentParser.parse_args, sys.argv, sys.path[:] = real, argv, before  # type: ignore[method-assign]
        for name in set(sys.modules) - modules:  # other scripts have modules of the same name beside them
            if str(getattr(sys.modules[name], "__file__", None) or "").startswith(str(script.parent)):
                del sys.modules[name]
