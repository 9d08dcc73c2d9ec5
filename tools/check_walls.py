"""The house rules that no linter knows, checked over the files that git tracks: `python tools/check_walls.py [ROOT]`.

Prints one line for each breach, `file:line: rule: what and what to do`, and ends with status 1 where there is any. Imports between
rooms are import-linter's business and style is ruff's; both are set up in pyproject.toml.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

MODULE_LINES = 400
FUNCTION_LINES = 60  # without the docstring: explaining is never punished
NAMELESS = frozenset({"utils", "util", "helpers", "helper", "common", "misc"})
MEDIA_LIBRARY = "av"
MEDIA_ROOMS = ("mmssl/data/", "mmssl/bench/", "mmssl/downstream/render.py")
BINARY = frozenset({".png", ".jpg", ".jpeg", ".gif", ".mp4", ".npz", ".npy", ".parquet", ".safetensors", ".ico", ".woff2"})

# Written in pieces, so that this file does not hold what it forbids.
REGISTRY_HOST = re.compile(
    "|".join(
        re.escape(".".join(parts))
        for parts in (
            ("pypi", "org"),
            ("pythonhosted", "org"),
            ("npmjs", "org"),
            ("npmjs", "com"),
            ("deb", "debian", "org"),
            ("conda", "anaconda", "org"),
            ("proxy", "golang", "org"),
        )
    )
)
MACHINE_PATH = re.compile(r"(?<![\w./:~-])/(?:work|root|home/\w+|Users/\w+|opt/\w+|mnt/\w+)/\w|\b[A-Z]:\\Users\\")
YEAR = re.compile(r"\b(?:19[6-9]|20[0-4])\d\b")
VENUE = re.compile(
    r"arXiv:\d{4}\.\d{4,5}"
    r"|\b(?:CVPR|ICCV|ECCV|WACV|BMVC|ACCV|NeurIPS|NIPS|ICML|ICLR|AAAI|IJCAI|COLT|ACL|EMNLP|NAACL|TACL|Interspeech|INTERSPEECH|ICASSP|ISMIR"
    r"|TPAMI|IJCV|JMLR|TMLR|TIP|MICCAI|ICRA|CoRL|ACM Multimedia|SIGGRAPH)\b"
)

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef


class Module(NamedTuple):
    """One Python file: its path under the root, its lines, its syntax tree."""

    path: PurePosixPath
    lines: list[str]
    tree: ast.Module

    def within(self, *prefixes: str) -> bool:
        """Whether the file is one of `prefixes` or lies in one that ends with a slash."""
        return any(str(self.path) == p or (p.endswith("/") and str(self.path).startswith(p)) for p in prefixes)


class Breach(NamedTuple):
    """One broken rule at one line."""

    path: PurePosixPath
    line: int
    rule: str
    what: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.rule}: {self.what}"


# What a rule finds: a line and a sentence. The rule's name is its function's name.
Finding = tuple[int, str]


def module_length(module: Module) -> Iterator[Finding]:
    """A module is one idea."""
    if len(module.lines) > MODULE_LINES:
        yield MODULE_LINES + 1, f"{len(module.lines)} lines, the limit is {MODULE_LINES}; split it by idea"


def function_length(module: Module) -> Iterator[Finding]:
    """A function fits on a screen (its docstring is not counted)."""
    for node in ast.walk(module.tree):
        if isinstance(node, FunctionNode):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1 - _docstring_lines(node)
            if lines > FUNCTION_LINES:
                yield node.lineno, f"{node.name} has {lines} lines, the limit is {FUNCTION_LINES}; name its parts"


def docstrings(module: Module) -> Iterator[Finding]:
    """Every public module, class, function and method of the package says what it is for."""
    if not module.within("mmssl/"):
        return
    if module.path.name != "__init__.py" and ast.get_docstring(module.tree) is None:
        yield 1, "the module has no docstring"
    for name, node in _public(module.tree):
        if ast.get_docstring(node) is None and not _explained_elsewhere(node):
            yield node.lineno, f"{name} has no docstring"


def paper(module: Module) -> Iterator[Finding]:
    """An objective's module names its source paper: the year, and arXiv number or venue."""
    if not module.within("mmssl/objectives/") or module.path.stem in ("base", "__init__") or module.path.stem.startswith("_"):
        return
    text = ast.get_docstring(module.tree) or ""
    if not YEAR.search(text) or not VENUE.search(text):
        yield 1, "the docstring names no source paper; give authors, title, year and arXiv number or venue"


def lost_buffers(module: Module) -> Iterator[Finding]:
    """A buffer that a checkpoint will not hold carries a comment that says why it may be lost."""
    for node in ast.walk(module.tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "register_buffer"):
            continue
        given = [k.value for k in node.keywords if k.arg == "persistent"] + node.args[2:3]
        if any(isinstance(value, ast.Constant) and value.value is False for value in given):
            around = module.lines[max(0, node.lineno - 2) : node.end_lineno]
            if not any("#" in line for line in around):
                yield node.lineno, "persistent=False without a comment; say why a resumed run may lose it"


def media_library(module: Module) -> Iterator[Finding]:
    """Only the rooms that read and write media import the media library."""
    if not module.within("mmssl/") or module.within(*MEDIA_ROOMS):
        return
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [node.module or ""]
        else:
            continue
        if any(name.split(".")[0] == MEDIA_LIBRARY for name in names):
            yield node.lineno, f"imports {MEDIA_LIBRARY}; only {', '.join(MEDIA_ROOMS)} may"


def commands(module: Module) -> Iterator[Finding]:
    """A command's module holds the one function of that name, whose help ends with an example.

    The module of a group assigns the group to its own name and holds the functions of its commands; `group_command.py` holds one more.
    """
    if not module.within("mmssl/commands/") or module.path.name == "__init__.py" or module.path.stem.startswith("_"):
        return
    public = [n for n in module.tree.body if isinstance(n, FunctionNode) and not n.name.startswith("_")]
    stem, names = module.path.stem, [node.name for node in public]
    targets = [target for n in module.tree.body if isinstance(n, ast.Assign) for target in n.targets]
    group = any(isinstance(target, ast.Name) and target.id == stem for target in targets)
    if not group and not (len(names) == 1 and (stem == names[0] or stem.endswith(f"_{names[0]}"))):
        yield 1, f"must hold one public function, {stem}; it holds {', '.join(names) or 'none'}"
    for node in public:
        if "Example:" not in (ast.get_docstring(node) or ""):
            yield node.lineno, f"the help of {node.name} has no line 'Example:'"


RULES: tuple[Callable[[Module], Iterator[Finding]], ...] = (
    module_length,
    function_length,
    docstrings,
    paper,
    lost_buffers,
    media_library,
    commands,
)


def check_module(path: PurePosixPath, text: str) -> Iterator[Breach]:
    """All rules about one Python file's code."""
    try:
        tree = ast.parse(text)
    except SyntaxError as error:
        yield Breach(path, error.lineno or 1, "syntax", error.msg)
        return
    module = Module(path, text.splitlines(), tree)
    for rule in RULES:
        for line, what in rule(module):
            yield Breach(path, line, rule.__name__, what)


def check_name(path: PurePosixPath) -> Iterator[Breach]:
    """No file or folder has a name that could hold anything."""
    for part in (*path.parts[:-1], path.stem):
        if part.lower() in NAMELESS:
            yield Breach(path, 1, "name", f"{part!r} says nothing about what is inside; name the idea")


def check_text(path: PurePosixPath, text: str) -> Iterator[Breach]:
    """No tracked file points at one machine or one registry."""
    for number, line in enumerate(text.splitlines(), start=1):
        if found := REGISTRY_HOST.search(line):
            yield Breach(path, number, "registry", f"names the host {found.group()}; leave that to each machine's own settings")
        if found := MACHINE_PATH.search(line):
            yield Breach(path, number, "machine", f"holds a path of one machine ({found.group()}...); make it relative")


def check(root: Path) -> list[Breach]:
    """Every breach in the files under `root`, in the order of the files."""
    breaches: list[Breach] = []
    for path in tracked(root):
        breaches.extend(check_name(path))
        if path.suffix.lower() in BINARY:
            continue
        try:
            text = (root / path).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            breaches.append(Breach(path, 1, "text", "is not UTF-8; convert it, or add its suffix to BINARY"))
            continue
        breaches.extend(check_text(path, text))
        # Tests may be as long as their subject needs; the other rules are about code that users read.
        if path.suffix == ".py" and path.parts[0] in ("mmssl", "tools"):
            breaches.extend(check_module(path, text))
    return breaches


def tracked(root: Path) -> list[PurePosixPath]:
    """What git tracks or is about to (neither ignored nor deleted); in an unpacked archive without git, every file."""
    listing = subprocess.run(
        ["git", "-C", str(root), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        text=True,
        check=False,
    )
    if listing.returncode == 0:
        names = {name for name in listing.stdout.split("\0") if name}
    else:
        paths = (p.relative_to(root) for p in root.rglob("*"))
        names = {p.as_posix() for p in paths if not any(part.startswith(".") for part in p.parts)}
    return [PurePosixPath(name) for name in sorted(names) if (root / name).is_file()]


def _public(tree: ast.Module) -> Iterator[tuple[str, FunctionNode | ast.ClassDef]]:
    for node in tree.body:
        if not isinstance(node, FunctionNode | ast.ClassDef) or node.name.startswith("_"):
            continue
        yield node.name, node
        if isinstance(node, ast.ClassDef):
            for part in node.body:
                if isinstance(part, FunctionNode) and not part.name.startswith("_"):
                    yield f"{node.name}.{part.name}", part


def _explained_elsewhere(node: FunctionNode | ast.ClassDef) -> bool:
    # @overload and @override repeat a documented function; a setter is explained by its property.
    names = {d.id if isinstance(d, ast.Name) else d.attr for d in node.decorator_list if isinstance(d, ast.Name | ast.Attribute)}
    return bool(names & {"overload", "override", "setter"})


def _docstring_lines(node: FunctionNode) -> int:
    first = node.body[0]
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        return (first.end_lineno or first.lineno) - first.lineno + 1
    return 0


def main() -> int:
    """Check the folder given, or this project."""
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[1]
    breaches = check(root)
    for breach in breaches:
        print(breach)
    print(f"{len(breaches)} breaches of the house rules" if breaches else "the house rules hold")
    return 1 if breaches else 0


if __name__ == "__main__":
    sys.exit(main())
