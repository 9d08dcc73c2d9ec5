"""What the README promises on its first screen."""

from __future__ import annotations

import re

from tests.page_blocks import ROOT, blocks_of


def test_the_first_screen_is_two_commands() -> None:
    first_screen = "\n".join((ROOT / "README.md").read_text(encoding="utf-8").splitlines()[:40])
    lines = [line.split("#")[0].strip() for block in blocks_of(first_screen) for line in block.text.splitlines()]
    assert "pip install uv && uv run mmssl demo" in lines
    assert "uv run pytest" in lines


def test_ci_runs_the_commands_of_the_readme_and_builds_the_site() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    bounded = r"(?:timeout(?: --\S+)* \d+ )?"  # a hang ends with a trace instead of with the machine
    assert re.search(rf"^phase \"tests\" {bounded}uv run pytest\b", script, re.MULTILINE)
    assert re.search(r"^phase \"docs\" .*\bmkdocs build --strict$", script, re.MULTILINE)


def test_every_command_is_in_the_list() -> None:
    from mmssl.cli import COMMANDS

    commands = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Commands")[2].partition("\n## ")[0]
    assert set(COMMANDS) <= set(re.findall(r"`(\w+)`", commands))
