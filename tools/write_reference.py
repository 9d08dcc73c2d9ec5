"""Write the pages of the reference from the code: `python tools/write_reference.py [--check]`.

docs/reference/config.md (every option of every component), docs/reference/commands.md (every command), docs/objectives/README.md (the list
of objectives). A new component or command appears by itself; tests/test_reference.py fails where a page is not what this writes.
"""

from __future__ import annotations

import argparse
import inspect
import json
import re
import sys
import typing
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import typer
from typer.models import ArgumentInfo, OptionInfo, ParameterInfo

sys.path.insert(0, str(Path(__file__).resolve().parent))

from option_docs import Option, options_of, type_in_words

from mmssl.catalogue import describe
from mmssl.cli import build_app
from mmssl.components import component_names
from mmssl.config import TRAIN_LEAST, StreamConfig
from mmssl.encoders.base import encoder_class
from mmssl.files import write_aside
from mmssl.objectives.base import objective_class
from mmssl.training.settings import TrainConfig

ROOT = Path(__file__).resolve().parents[1]
SIDES = {"audio": "sound", "video": "pictures"}  # what a role looks at, where its name does not say
MADE = "<!-- written by tools/write_reference.py: change the code it reads, not this page -->"


def pages() -> dict[str, str]:
    """Path under the project -> its text."""
    return {
        "docs/reference/config.md": config_page(),
        "docs/reference/commands.md": commands_page(),
        "docs/objectives/README.md": objectives_page(),
    }


# Configuration -----------------------------------------------------------------------------------------------------------


def config_page() -> str:
    """Every option that a config can hold."""
    encoders = {name: encoder_class(name) for name in component_names("mmssl.encoders")}
    objectives = {name: objective_class(name) for name in component_names("mmssl.objectives")}
    train = [
        option._replace(limits=f"at least {TRAIN_LEAST[option.name]}") if option.name in TRAIN_LEAST else option
        for option in options_of(TrainConfig)
    ]
    lines = [
        "# Configuration reference",
        "",
        MADE,
        "",
        "Every key that a config can hold, read from the code that takes it. How a config is put together, with an example, stands in "
        "[configuration](../configuration.md). A key with no default is required. `null` in a view stands for what the encoder was built for.",
        "",
        "## seed",
        "",
        "Integer, at least 0, default `0`. Of the initial weights and of everything drawn at random.",
        "",
        "## streams",
        "",
        "A list; each entry is a corpus with the objectives that learn from it. Each step takes a batch of each.",
        "",
        *table(options_of(StreamConfig)),
        "",
        "Each entry of `objectives` holds `name` (of [an objective](#objectives), or the dotted name of a module of yours), `weight` (a number of "
        "at least 0, default `1.0`, by which its loss is multiplied), and the options of the objective.",
        "",
        "## train",
        "",
        *table(train),
        "",
        "## Encoders",
        "",
        "Under `encoders`, a mapping from roles (`video`, `audio`, `flow`, `text`) to encoders: `name` and the encoder's options.",
    ]
    for name, cls in encoders.items():
        lines += ["", f"### {name}", "", f"For {_a(cls.modality)}. {title(cls)}", "", *table(options_of(cls))]
    lines += ["", "## Objectives"]
    for name, cls in objectives.items():
        needs = ", ".join(f"`{role}` ({' or '.join(kinds)})" for role, kinds in cls.roles.items())
        lines += [
            "",
            f"### {name}",
            "",
            f"{title(cls)} [What it learns, and its traps](../objectives/{name}.md). Encoders: {needs}.",
        ]
        lines += ["", *table(options_of(cls))]
    lines += [
        "",
        "## Views, augmentations and schedules",
        "",
        "What the options of objectives nest. An objective's own defaults stand with it; these hold elsewhere.",
    ]
    for part in parts_of(objectives.values()):
        lines += ["", f"### {part.__name__}", "", title(part), "", *table(options_of(part))]
    return "\n".join(lines) + "\n"


def parts_of(classes: Iterable[type]) -> list[type]:
    """The dataclasses that the classes' options nest, by name."""
    found = {option.part for cls in classes for option in options_of(cls) if option.part is not None}
    return sorted(found, key=lambda part: part.__name__)


def title(cls: type) -> str:
    """The first paragraph of a class's docstring, its indentation and line breaks gone."""
    text = " ".join(inspect.cleandoc(cls.__doc__ or "").partition("\n\n")[0].split())
    return text if text.endswith(".") else f"{text}."


def table(options: Iterable[Option]) -> list[str]:
    """A table of options; the column of limits only where one has any."""
    options = list(options)
    limited = any(option.limits for option in options)
    head = ["option", "type", "default", *(["limits"] if limited else []), "meaning"]
    rows = [
        [f"`{o.name}`", o.type, f"`{o.default}`" if o.default else "required", *([o.limits] if limited else []), o.meaning]
        for o in options
    ]
    return grid(head, rows)


def grid(head: list[str], rows: Iterable[list[str]]) -> list[str]:
    """Lines of a Markdown table."""
    escaped = [" | ".join(cell.replace("|", "\\|").replace("<", "&lt;") for cell in row) for row in rows]
    return [f"| {' | '.join(head)} |", "|" + "---|" * len(head), *(f"| {row} |" for row in escaped)]


def _a(modality: str) -> str:
    return {
        "frame": "single pictures",
        "video": "clips of pictures",
        "audio": "sound",
        "flow": "optical flow",
        "text": "text",
    }.get(modality, modality)


# Objectives --------------------------------------------------------------------------------------------------------------


def objectives_page() -> str:
    """The list of objectives, by what they look at."""
    entries = [describe(name) for name in component_names("mmssl.objectives")]
    lines = ["# Objectives", "", MADE, ""]
    lines += [
        "What a model can be asked of unlabelled data, one page each: what is learnt, the options, what goes wrong. "
        "[Configuration](../reference/config.md#objectives) lists every option; [results](../results/README.md) tell what was measured. "
        "`mmssl tasks` prints this list, and `mmssl tasks NAME` tells all about one.",
    ]
    for roles in dict.fromkeys(
        tuple(entry["encoders"]) for entry in sorted(entries, key=lambda e: (-len(e["encoders"]), *e["encoders"]))
    ):
        lines += ["", f"## From {' and '.join(SIDES.get(str(role), str(role)) for role in roles)}", ""]
        of_these = [entry for entry in entries if tuple(entry["encoders"]) == roles]
        lines += grid(["objective", "what it is"], [[f"[{e['name']}]({e['name']}.md)", e["what"]] for e in of_these])
    return "\n".join(lines) + "\n"


# Commands ----------------------------------------------------------------------------------------------------------------


def commands_page() -> str:
    """Every command with its arguments and options."""
    lines = ["# Commands", "", MADE, ""]
    lines += [
        "What `mmssl COMMAND --help` shows. Exit status: 0 done, 2 bad input or configuration (one clear sentence on stderr), 1 anything else. "
        "Progress goes to stderr, results to stdout.",
    ]
    for name, function in commands(build_app(), "mmssl"):
        text, _, example = inspect.cleandoc(function.__doc__ or "").partition("Example: ")
        lines += ["", f"## {name}", "", text.strip(), "", f"Example: `{' '.join(example.split())}`", ""]
        lines += grid(["argument or option", "type", "default", "meaning"], parameters(function))
    return "\n".join(lines) + "\n"


def commands(app: typer.Typer, above: str) -> Iterator[tuple[str, Callable[..., Any]]]:
    """Whole name and function of each command, those of groups after the group's name."""
    for command in app.registered_commands:
        if command.callback is not None:
            yield f"{above} {command.name or command.callback.__name__.replace('_', '-')}", command.callback
    for group in app.registered_groups:
        if group.typer_instance is not None:
            yield from commands(group.typer_instance, f"{above} {group.name or group.typer_instance.info.name}")


def parameters(function: Callable[..., Any]) -> Iterator[list[str]]:
    """Rows of a command's table."""
    hints = typing.get_type_hints(function, include_extras=True)
    for name, parameter in inspect.signature(function).parameters.items():
        kind, *notes = typing.get_args(hints[name]) if hasattr(hints[name], "__metadata__") else (hints[name],)
        bare = ArgumentInfo() if parameter.default is inspect.Parameter.empty else OptionInfo()
        info = next((note for note in notes if isinstance(note, ParameterInfo)), bare)
        argument = isinstance(info, ArgumentInfo)
        # A flag's name comes first in `typer.Option("--json")`, where typer keeps what else is a default.
        flags = [flag for flag in (info.default, *(info.param_decls or ())) if isinstance(flag, str) and flag.startswith("-")]
        flags = flags or [f"--{name.replace('_', '-')}"]
        shown = info.metavar or name.upper() if argument else flags[0].replace("/", " or ")
        meaning = " ".join((info.help or "").split())
        if isinstance(info.envvar, str):
            meaning += f" Also read from `${info.envvar}`."
        yield [f"`{shown}`", _kind(kind, info), _default(parameter.default), meaning]


def _kind(hint: Any, info: ParameterInfo) -> str:
    words = re.sub(r", or null$", "", type_in_words(_without_paths(hint)))
    bounds = [f"{word} {bound}" for word, bound in (("at least", info.min), ("at most", info.max)) if bound is not None]
    return ", ".join([{"true or false": "switch"}.get(words, words), *bounds])


def _without_paths(hint: Any) -> Any:
    """The type with files as text: on a command line they are typed alike."""
    if hint is Path:
        return str
    inside = typing.get_args(hint)
    if not inside or typing.get_origin(hint) is typing.Literal:
        return hint
    if typing.get_origin(hint) in (list, tuple):
        return list[_without_paths(inside[0])]
    return typing.Union[tuple(_without_paths(part) for part in inside)]  # noqa: UP007  # built at run time


def _default(value: Any) -> str:
    if value is inspect.Parameter.empty:
        return "required"
    if value is None or value is False:
        return ""
    return f"`{value if isinstance(value, str | Path) else json.dumps(value)}`"


def main() -> None:
    """Write the pages, or with --check say which are not up to date."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; status 1 where a page is not up to date")
    check = parser.parse_args().check
    old = [
        name for name, text in pages().items() if not (ROOT / name).is_file() or (ROOT / name).read_text(encoding="utf-8") != text
    ]
    for name in old:
        if not check:
            (ROOT / name).parent.mkdir(exist_ok=True)
            write_aside(ROOT / name, pages()[name].encode())
        print(f"{name}: {'not up to date; run python tools/write_reference.py' if check else 'written'}")
    sys.exit(int(check and bool(old)))


if __name__ == "__main__":
    main()
