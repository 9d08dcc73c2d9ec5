"""The house rules hold here, and each of them fires where it is broken."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path, PurePosixPath
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]


def _load_tool() -> ModuleType:
    # tools/ holds scripts, not a package; nothing imports it but this test.
    spec = importlib.util.spec_from_file_location("check_walls", ROOT / "tools" / "check_walls.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["check_walls"] = module
    spec.loader.exec_module(module)
    return module


walls = _load_tool()


def breaches_of(path: str, text: str) -> list[tuple[int, str]]:
    return [(b.line, b.rule) for b in walls.check_module(PurePosixPath(path), text)]


def test_this_project_keeps_the_rules() -> None:
    assert [str(breach) for breach in walls.check(ROOT)] == []


DOCUMENTED = '"""What this is."""\n'


@pytest.mark.parametrize("extra, fires", [(0, False), (1, True)])
def test_module_length(extra: int, fires: bool) -> None:
    text = DOCUMENTED + "x = 1\n" * (walls.MODULE_LINES - 1 + extra)
    assert breaches_of("mmssl/a.py", text) == ([(401, "module_length")] if fires else [])


@pytest.mark.parametrize("extra, fires", [(0, False), (1, True)])
def test_function_length_without_its_docstring(extra: int, fires: bool) -> None:
    docstring = '    """One.\n' + "    more\n" * 30 + '    """\n'
    text = DOCUMENTED + "def f():\n" + docstring + "    x = 1\n" * (walls.FUNCTION_LINES - 1 + extra)
    assert breaches_of("mmssl/a.py", text) == ([(2, "function_length")] if fires else [])


@pytest.mark.parametrize(
    "code, line",
    [
        ("x = 1\n", 1),
        (DOCUMENTED + "def f():\n    pass\n", 2),
        (DOCUMENTED + "async def f():\n    pass\n", 2),
        (DOCUMENTED + "class A:\n    pass\n", 2),
        (DOCUMENTED + 'class A:\n    """A."""\n    def f(self):\n        pass\n', 4),
    ],
)
def test_docstrings_are_missed(code: str, line: int) -> None:
    assert breaches_of("mmssl/a.py", code) == [(line, "docstrings")]
    assert breaches_of("tools/a.py", code) == []


@pytest.mark.parametrize(
    "code",
    [
        "def _f():\n    pass\n",
        "class _A:\n    def f(self):\n        pass\n",
        'class A:\n    """A."""\n    def __len__(self):\n        return 0\n',
        'class A:\n    """A."""\n    @override\n    def f(self):\n        pass\n',
        'class A:\n    """A."""\n    @typing.overload\n    def f(self): ...\n',
        'class A:\n    """A."""\n    @f.setter\n    def f(self, value): ...\n',
    ],
)
def test_docstrings_are_asked_only_of_what_needs_them(code: str) -> None:
    assert breaches_of("mmssl/a.py", DOCUMENTED + code) == []


@pytest.mark.parametrize(
    "docstring, fires",
    [
        ("Arandjelovic and Zisserman, Look, Listen and Learn, ICCV 2017.", False),
        ("Korbar et al., 2018, arXiv:1807.00230.", False),
        ("Look, Listen and Learn, ICCV.", True),
        ("A good idea of 2017.", True),
        ("A good idea.", True),
    ],
)
def test_an_objective_names_its_paper(docstring: str, fires: bool) -> None:
    text = f'"""{docstring}"""\n'
    assert breaches_of("mmssl/objectives/a.py", text) == ([(1, "paper")] if fires else [])
    assert breaches_of("mmssl/objectives/base.py", text) == []
    assert breaches_of("mmssl/nn/a.py", text) == []


@pytest.mark.parametrize(
    "call, fires",
    [
        ('self.register_buffer("q", x, persistent=False)', True),
        ('self.register_buffer("q", x, False)', True),
        ('self.register_buffer(\n            "q",\n            x,\n            persistent=False,\n        )', True),
        ('self.register_buffer("q", x, persistent=False)  # a constant of the filter bank', False),
        ('# a constant of the filter bank\n        self.register_buffer("q", x, persistent=False)', False),
        ('self.register_buffer("q", x)', False),
        ('self.register_buffer("q", x, persistent=True)', False),
    ],
)
def test_a_lost_buffer_says_why(call: str, fires: bool) -> None:
    text = DOCUMENTED + f"class _A:\n    def f(self, x):\n        y = 1\n        {call}\n"
    assert breaches_of("mmssl/nn/a.py", text) == ([(5, "lost_buffers")] if fires else [])


@pytest.mark.parametrize("statement", ["import av", "import av.audio", "from av import open", "from av.video import frame"])
def test_only_some_rooms_open_media(statement: str) -> None:
    assert breaches_of("mmssl/nn/a.py", DOCUMENTED + statement + "\n") == [(2, "media_library")]
    assert breaches_of("mmssl/downstream/search.py", DOCUMENTED + statement + "\n") == [(2, "media_library")]
    assert breaches_of("mmssl/data/decode/pyav.py", DOCUMENTED + statement + "\n") == []
    assert breaches_of("mmssl/downstream/render.py", DOCUMENTED + statement + "\n") == []
    assert breaches_of("mmssl/nn/a.py", DOCUMENTED + "import avalon\n") == []


@pytest.mark.parametrize(
    "code, rules",
    [
        ('def f():\n    """Do it.\n\n    Example: mmssl f\n    """\n', []),
        ('def f():\n    """Do it."""\n', [(2, "commands")]),
        ('def g():\n    """Do it.\n\n    Example: mmssl g\n    """\n', [(1, "commands")]),
        ('def f():\n    """Example: f."""\n\n\ndef g():\n    """Example: g."""\n', [(1, "commands")]),
    ],
)
def test_a_command_is_one_function_with_an_example(code: str, rules: list[tuple[int, str]]) -> None:
    assert breaches_of("mmssl/commands/f.py", DOCUMENTED + code) == rules


GROUP = "f = typer.Typer()\n"


@pytest.mark.parametrize(
    "path, code, rules",
    [
        ("f", GROUP + 'def g():\n    """Example: f g."""\n\n\ndef h():\n    """Example: f h."""\n', []),
        ("f", GROUP + 'def g():\n    """Do it."""\n', [(3, "commands")]),
        ("other", GROUP + 'def g():\n    """Example: f g."""\n', [(1, "commands")]),
        ("f_g", 'def g():\n    """Example: f g."""\n', []),
        ("fg", 'def g():\n    """Example: f g."""\n', [(1, "commands")]),
    ],
)
def test_a_group_of_commands_has_an_example_each(path: str, code: str, rules: list[tuple[int, str]]) -> None:
    assert breaches_of(f"mmssl/commands/{path}.py", DOCUMENTED + code) == rules


def test_broken_syntax_is_a_breach_and_no_crash() -> None:
    assert breaches_of("mmssl/a.py", "def f(:\n") == [(1, "syntax")]


@pytest.mark.parametrize("path", ["mmssl/utils.py", "mmssl/nn/Helpers.py", "tests/misc/test_a.py", "docs/common.md"])
def test_names_that_say_nothing(path: str) -> None:
    assert [b.rule for b in walls.check_name(PurePosixPath(path))] == ["name"]


def test_names_that_say_something() -> None:
    assert list(walls.check_name(PurePosixPath("mmssl/data/commons_licence.py"))) == []


# Joined here from pieces: this file is checked too.
@pytest.mark.parametrize(
    "line, rule",
    [
        ("index = https://" + "pypi" + ".org/simple", "registry"),
        ("url: https://files." + "pythonhosted" + ".org/x.whl", "registry"),
        ("registry." + "npmjs" + ".org", "registry"),
        ('path = "/' + 'work/main/x.mp4"', "machine"),
        ("see /" + "home/me/clips", "machine"),
        ("cd /" + "root/mmssl", "machine"),
    ],
)
def test_traces_of_one_machine(line: str, rule: str) -> None:
    assert [(b.line, b.rule) for b in walls.check_text(PurePosixPath("README.md"), "ok\n" + line + "\n")] == [(2, rule)]


@pytest.mark.parametrize("line", ["#!/usr/bin/env bash", "https://example.org/work/main", "../shared/media/root/x", "/tmp/run"])
def test_ordinary_paths_are_no_trace(line: str) -> None:
    assert list(walls.check_text(PurePosixPath("README.md"), line + "\n")) == []


def test_the_script_prints_and_fails(tmp_path: Path) -> None:
    bad = tmp_path / "mmssl" / "utils.py"
    bad.parent.mkdir()
    bad.write_text("def f():\n    pass\n")
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "check_walls.py"), str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "mmssl/utils.py:1: name:" in done.stdout
    assert "mmssl/utils.py:1: docstrings: f has no docstring" in done.stdout
    bad.unlink()
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "check_walls.py"), str(tmp_path)], capture_output=True, check=False
    )
    assert done.returncode == 0


def test_bytes_that_are_no_text_are_a_breach(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_bytes(b"\xff\xfe\x00")
    assert [(b.path.name, b.rule) for b in walls.check(tmp_path)] == [("notes.txt", "text")]
