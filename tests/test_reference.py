"""The reference pages are what the code says, and say something about every option."""

from __future__ import annotations

import dataclasses
import importlib
import json
import sys
from pathlib import Path
from typing import Annotated, Literal

import pytest
import typer
from pydantic import Field

from mmssl.components import component_names
from mmssl.config import StreamConfig, load_config
from mmssl.encoders.base import encoder_class
from mmssl.objectives.base import objective_class
from mmssl.schema import Strict, schema_of
from mmssl.training.settings import TrainConfig

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))
option_docs, write_reference = map(importlib.import_module, ("option_docs", "write_reference"))

COMPONENTS = [
    StreamConfig,
    TrainConfig,
    *(encoder_class(name) for name in component_names("mmssl.encoders")),
    *(objective_class(name) for name in component_names("mmssl.objectives")),
]
EVERY = [*COMPONENTS, *write_reference.parts_of(COMPONENTS)]


@pytest.mark.parametrize("page", ["docs/reference/config.md", "docs/reference/commands.md", "docs/objectives/README.md"])
def test_pages_are_what_the_tool_writes(page):
    assert (ROOT / page).read_text(encoding="utf-8") == write_reference.pages()[page], "run python tools/write_reference.py"


@pytest.mark.parametrize("cls", EVERY, ids=lambda cls: cls.__name__)
def test_every_option_is_there_and_has_a_meaning(cls):
    options = option_docs.options_of(cls)
    schema = cls if issubclass(cls, Strict) else schema_of(cls)
    assert [option.name for option in options] == list(schema.model_fields)
    assert [option.name for option in options if not option.meaning] == []


def test_defaults_are_those_that_a_run_gets():
    given = load_config(ROOT / "configs" / "tiny" / "avts.yaml").resolved["train"]
    shown = {option.name: option.default for option in option_docs.options_of(TrainConfig)}
    assert json.loads(shown["betas"]) == given["betas"] and json.loads(shown["clip"]) == given["clip"] and shown["steps"] == ""


# The reader of code must itself be able to see what is there.


@dataclasses.dataclass(frozen=True)
class Inner:
    """Inner."""

    share: float = 0.5  # of it
    kind: Literal["a", "b"] = "a"  # which


class Outer:
    """Outer.

    Args:
        inner: the part,
            in two lines.
        low, high: two limits.

    Afterwards.
    """

    def __init__(self, *, low: int, inner: Inner = Inner(share=0.25), high: tuple[float, ...] | None = None) -> None: ...


class Model(Strict):
    """Model."""

    count: int = Field(default=2, ge=1, le=9)  # how many


def test_options_are_read_off_signatures_docstrings_and_comments():
    assert option_docs.options_of(Outer) == [
        ("low", "integer", "", "", "two limits", None),
        ("inner", "[Inner](#inner)", "{share: 0.25}", "", "the part, in two lines", Inner),
        ("high", "list of numbers, or null", "null", "", "two limits", None),
    ]
    assert option_docs.options_of(Inner) == [
        ("share", "number", "0.5", "", "of it", None),
        ("kind", "`a` `b`", "a", "", "which", None),
    ]
    assert option_docs.options_of(Model) == [("count", "integer", "2", "1 to 9", "how many", None)]


def test_commands_of_groups_are_found():
    app, group = typer.Typer(), typer.Typer()

    @app.command("one")
    def _one(path: Annotated[Path, typer.Argument(help="Where.")]) -> None:
        """One."""

    @group.command("query")
    def _query(
        text: str,
        many: Annotated[int, typer.Option(min=1, help="How many.")] = 10,
        as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
    ) -> None:
        """Two."""

    app.add_typer(group, name="search")
    found = dict(write_reference.commands(app, "mmssl"))
    assert list(found) == ["mmssl one", "mmssl search query"]
    assert list(write_reference.parameters(found["mmssl one"])) == [["`PATH`", "text", "required", "Where."]]
    assert list(write_reference.parameters(found["mmssl search query"])) == [
        ["`TEXT`", "text", "required", ""],
        ["`--many`", "integer, at least 1", "`10`", "How many."],
        ["`--json`", "switch", "", "As JSON."],
    ]
