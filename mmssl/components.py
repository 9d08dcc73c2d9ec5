"""Components by name: a name in a config is the name of a module, so grep finds it and nothing has to be registered."""

from __future__ import annotations

import difflib
import importlib
import inspect
from pathlib import Path
from typing import TypeVar

from mmssl.types import InputError

T = TypeVar("T")


def find_component(name: str, *, package: str, contract: type[T]) -> type[T]:
    """The only concrete subclass of `contract` that module `package.name` (or the dotted `name`) defines.

    Raises `InputError` naming the nearest existing module where there is none.
    """
    module_name = name if "." in name else f"{package}.{name}"
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and not module_name.startswith(error.name):
            raise  # the module exists; one of its own imports does not
        raise InputError(_unknown(name, package, contract.__name__.lower())) from error
    found = [
        cls
        for cls in vars(module).values()
        if inspect.isclass(cls) and issubclass(cls, contract) and cls.__module__ == module_name and not inspect.isabstract(cls)
    ]
    if len(found) != 1:
        raise InputError(f"module {module_name} must define exactly one {contract.__name__}, it defines {len(found)}")
    return found[0]


def component_names(package: str) -> list[str]:
    """Names of the modules in a component package, without `base` and private ones."""
    folder = Path(str(importlib.import_module(package).__file__)).parent
    return sorted(p.stem for p in folder.glob("*.py") if p.stem not in ("base", "bank") and not p.stem.startswith("_"))


def _unknown(name: str, package: str, kind: str) -> str:
    known = component_names(package)
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    return f"there is no {kind} named {name!r}; {hint}known: {', '.join(known)}"
