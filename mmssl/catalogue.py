"""What objectives there are, as plain values for people and programs: read off the modules themselves, so that it cannot go stale."""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path
from typing import Any

from mmssl.components import component_names
from mmssl.objectives.base import objective_class

CONFIGS = Path(__file__).parents[1] / "configs"  # beside the package in a checkout; an installed package has none


def describe_all() -> list[dict[str, Any]]:
    """Every objective of `mmssl.objectives`, by name."""
    return [describe(name) for name in component_names("mmssl.objectives")]


def describe(name: str) -> dict[str, Any]:
    """One objective: name, what (a sentence), explanation (with its source), encoders (role -> modalities), options (name -> default,
    those of nested views and augmentations with their path), arguments (what the options mean), configs.

    Raises:
        InputError: there is no objective of that name.
    """
    cls = objective_class(name)
    explanation = inspect.cleandoc(inspect.getmodule(cls).__doc__ or "")
    title = " ".join(explanation.partition("\n\n")[0].split())
    return {
        "name": name,
        "what": title.partition(": ")[2] or title,
        "explanation": explanation,
        "encoders": {role: list(modalities) for role, modalities in cls.roles.items()},
        "options": _options(cls),
        "arguments": inspect.cleandoc(cls.__doc__ or ""),
        "configs": [str(path.relative_to(CONFIGS.parent)) for path in _configs(name)],
    }


def _options(cls: type) -> dict[str, str]:
    options: dict[str, str] = {}
    for parameter in inspect.signature(cls).parameters.values():
        default = parameter.default
        if parameter.name == "encoders":
            continue
        if dataclasses.is_dataclass(default):
            options |= {
                f"{parameter.name}.{field.name}": repr(getattr(default, field.name)) for field in dataclasses.fields(default)
            }
        else:
            options[parameter.name] = "required" if default is inspect.Parameter.empty else repr(default)
    return options


def _configs(name: str) -> list[Path]:
    return [path for path in (CONFIGS / f"{name}.yaml", CONFIGS / "tiny" / f"{name}.yaml") if path.is_file()]
