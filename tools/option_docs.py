"""What an option is, read off the code that takes it: its type, default, limits, and a sentence on what it means.

The sentence is the comment behind a dataclass's or model's field, else the entry of that name under `Args:` in the docstring.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import io
import json
import re
import textwrap
import tokenize
import types
import typing
from collections.abc import Mapping
from enum import Enum
from typing import Any, Literal, NamedTuple, Union

from pydantic import BaseModel

ENTRY = re.compile(r"^    (?P<names>[a-z_]\w*(?:, [a-z_]\w*)*): (?P<text>.*)$")
PLAIN = {int: "integer", float: "number", str: "text", bool: "true or false", type(None): "null", Any: "any value"}


class Option(NamedTuple):
    """One option, in words for a table."""

    name: str
    type: str
    default: str  # as YAML; empty where a value is required
    limits: str
    meaning: str
    part: type | None  # the dataclass that it nests


def options_of(target: type) -> list[Option]:
    """The options that a component, a dataclass or a model takes, in the order of its signature; what a builder injects is left out."""
    meanings = {**args_of(target), **comments_of(target)}
    if issubclass(target, BaseModel):
        return [
            _option(
                name, field.annotation, ... if field.is_required() else field.get_default(), limits_of(field.metadata), meanings
            )
            for name, field in target.model_fields.items()
        ]
    hints = typing.get_type_hints(target if dataclasses.is_dataclass(target) else target.__init__)
    made = {f.name: f for f in dataclasses.fields(target)} if dataclasses.is_dataclass(target) else {}
    found = []
    for name, parameter in inspect.signature(target).parameters.items():
        if name == "encoders":
            continue
        default = ... if parameter.default is inspect.Parameter.empty else parameter.default
        factory = made[name].default_factory if name in made else dataclasses.MISSING
        if factory is not dataclasses.MISSING:
            default = factory()
        found.append(_option(name, hints[name], default, "", meanings))
    return found


def _option(name: str, hint: Any, default: Any, limits: str, meanings: Mapping[str, str]) -> Option:
    part = next((arm for arm in _arms(hint) if isinstance(arm, type) and dataclasses.is_dataclass(arm)), None)
    meaning = re.sub(r"\bNone\b", "`null`", meanings.get(name, ""))
    meaning = meaning if ". " in meaning else meaning.removesuffix(".")
    return Option(name, type_in_words(hint), _shown(default), limits, meaning, part)


def type_in_words(hint: Any) -> str:
    """A type as someone who writes YAML would put it: `tuple[float, float] | None` is "list of 2 numbers, or null"."""
    return ", or ".join(_arm_in_words(arm) for arm in _arms(hint))


def _arms(hint: Any) -> tuple[Any, ...]:
    return typing.get_args(hint) if typing.get_origin(hint) in (Union, types.UnionType) else (hint,)


def _arm_in_words(hint: Any) -> str:
    origin, inside = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return " ".join(f"`{value}`" for value in inside)
    if origin is tuple and Ellipsis not in inside:
        return f"list of {len(inside)} {_arm_in_words(inside[0])}s"
    if origin in (tuple, list):
        return f"list of {_arm_in_words(inside[0])}s"
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return f"[{hint.__name__}](#{hint.__name__.lower()})"
    if origin is not None:  # dict[str, Any], Mapping[str, float]
        return "mapping"
    if isinstance(hint, type) and issubclass(hint, Enum):
        return " ".join(f"`{member.value}`" for member in hint)
    return PLAIN.get(hint) or getattr(hint, "__name__", str(hint))


def limits_of(metadata: typing.Iterable[Any]) -> str:
    """The bounds among a field's annotations: "at least 1", "0 to 1"."""
    bounds = {key: getattr(item, key) for item in metadata for key in ("ge", "le") if hasattr(item, key)}
    if len(bounds) == 2:
        return f"{bounds['ge']} to {bounds['le']}"
    return "".join(f"{'at least' if key == 'ge' else 'at most'} {value}" for key, value in bounds.items())


def _shown(default: Any) -> str:
    if default is ...:
        return ""
    if dataclasses.is_dataclass(default) and not isinstance(default, type):
        usual = {f.name: f.default for f in dataclasses.fields(default)}
        other = {key: value for key, value in dataclasses.asdict(default).items() if value != usual[key]}
        return "{" + ", ".join(f"{key}: {json.dumps(value)}" for key, value in other.items()) + "}"
    return default if isinstance(default, str) else json.dumps(default)


def args_of(target: Any) -> dict[str, str]:
    """Name -> text of the entries under `Args:` in a docstring; two names that share an entry have it both."""
    found: dict[str, str] = {}
    names: list[str] = []
    _, mark, rest = inspect.cleandoc(target.__doc__ or "").partition("Args:\n")
    for line in rest.splitlines() if mark else ():
        entry = ENTRY.match(line)
        if entry:
            names = entry["names"].split(", ")
            found |= dict.fromkeys(names, entry["text"])
        elif line.startswith("        "):
            found |= {name: f"{found[name]} {line.strip()}" for name in names}
        else:
            break
    return found


def comments_of(target: type) -> dict[str, str]:
    """Field -> the comment that stands in or behind its statement in the class's own text."""
    if not (dataclasses.is_dataclass(target) or issubclass(target, BaseModel)):
        return {}
    text = textwrap.dedent(inspect.getsource(target))
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    comments = {token.start[0]: token.string.lstrip("# ") for token in tokens if token.type == tokenize.COMMENT}
    (cls,) = (node for node in ast.parse(text).body if isinstance(node, ast.ClassDef))
    found: dict[str, str] = {}
    for node in cls.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            lines = range(node.lineno, (node.end_lineno or node.lineno) + 1)
            said = [
                comments[line]
                for line in lines
                if line in comments and not comments[line].startswith(("noqa", "type:", "pyright"))
            ]
            found |= {node.target.id: " ".join(said)} if said else {}
    return found
