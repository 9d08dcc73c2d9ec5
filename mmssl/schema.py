"""Strict schemas from signatures: what a component's `__init__` declares is what its config may say, and nothing else.

Unknown and ill-typed keys are all reported at once, each with its full path and the nearest valid name.
"""

from __future__ import annotations

import dataclasses
import difflib
import inspect
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, Union

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

INJECTED = ("self", "encoders")  # never configured: the builder passes them


class Strict(BaseModel):
    """A model that refuses unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=False, protected_namespaces=())


@dataclasses.dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong in a config."""

    path: str
    text: str

    def __str__(self) -> str:
        return f"{self.path}: {self.text}" if self.path else self.text


@cache
def schema_of(target: Callable[..., Any]) -> type[Strict]:
    """The strict model of a class's (or function's) keyword arguments; nested dataclasses become nested models."""
    function = target.__init__ if inspect.isclass(target) else target
    hints = typing.get_type_hints(function)
    fields: dict[str, Any] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if name in INJECTED:
            continue
        required = parameter.default is inspect.Parameter.empty
        fields[name] = (_strict_type(hints[name]), ... if required else _plain(_default(target, name, parameter)))
    return create_model(getattr(target, "__name__", "Arguments"), __base__=Strict, **fields)


def validate(target: Callable[..., Any], values: Mapping[str, Any], path: str) -> tuple[dict[str, Any], list[Problem]]:
    """Check `values` against `target`'s signature.

    Returns the resolved plain values (defaults filled in), or an empty dict and the problems.
    """
    return validate_model(schema_of(target), values, path)


def validate_model(model: type[BaseModel], values: Mapping[str, Any], path: str) -> tuple[dict[str, Any], list[Problem]]:
    """As `validate`, for a model."""
    try:
        return model.model_validate(dict(values)).model_dump(mode="json"), []
    except ValidationError as error:
        return {}, [_problem(model, item, path) for item in error.errors(include_url=False)]


def arguments_for(target: Callable[..., Any], resolved: Mapping[str, Any]) -> dict[str, Any]:
    """Turn resolved plain values into the objects that `target` takes: nested mappings into their dataclasses."""
    function = target.__init__ if inspect.isclass(target) else target
    hints = typing.get_type_hints(function)
    return {name: _build(hints[name], value) for name, value in resolved.items()}


def nearest(name: str, known: Sequence[str]) -> str:
    """A hint for a misspelt name."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}? " if close else ""


def _default(target: Callable[..., Any], name: str, parameter: inspect.Parameter) -> Any:
    # A dataclass field with a default_factory shows a private marker in the signature.
    if dataclasses.is_dataclass(target):
        for field in dataclasses.fields(target):
            if field.name == name and field.default_factory is not dataclasses.MISSING:
                return field.default_factory()
    return parameter.default


def _plain(value: Any) -> Any:
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return value
    return schema_of(type(value)).model_validate(dataclasses.asdict(value))


def _strict_type(hint: Any) -> Any:
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return schema_of(hint)
    if typing.get_origin(hint) in (Union, types.UnionType):
        return Union[tuple(_strict_type(part) for part in typing.get_args(hint))]  # noqa: UP007  # built at run time
    return hint


def _dataclass_in(hint: Any) -> type | None:
    candidates = typing.get_args(hint) if typing.get_origin(hint) in (Union, types.UnionType) else (hint,)
    return next((part for part in candidates if isinstance(part, type) and dataclasses.is_dataclass(part)), None)


def _build(hint: Any, value: Any) -> Any:
    inner = _dataclass_in(hint)
    if inner is not None and isinstance(value, Mapping):
        return inner(**arguments_for(inner, value))
    return _tuples(value) if "tuple" in str(hint) else value


def _tuples(value: Any) -> Any:
    # JSON and YAML know lists only; the signatures say tuple, and frozen dataclasses must be hashable.
    return tuple(_tuples(part) for part in value) if isinstance(value, list) else value


def _problem(model: type[BaseModel], item: Any, path: str) -> Problem:
    location = [
        part for part in item["loc"] if not (isinstance(part, str) and part[:1].isupper())
    ]  # drops names of union members
    where = ".".join([path, *map(str, location)]).strip(".")
    if item["type"] == "extra_forbidden":
        known = _fields_at(model, location[:-1])
        return Problem(where, f"unknown key; {nearest(str(location[-1]), known)}known here: {', '.join(known)}")
    if item["type"] == "missing":
        return Problem(where, "is required and missing")
    return Problem(where, f"{item['msg'][0].lower()}{item['msg'][1:]}, got {item['input']!r}")


def _fields_at(model: type[BaseModel], location: Sequence[str | int]) -> list[str]:
    current: Any = model
    for part in location:
        if isinstance(part, int) or not hasattr(current, "model_fields"):
            continue
        annotation = current.model_fields[part].annotation
        choices = [annotation, *typing.get_args(annotation)]
        current = next((c for c in choices if isinstance(c, type) and issubclass(c, BaseModel)), current)
    return sorted(current.model_fields) if hasattr(current, "model_fields") else []
