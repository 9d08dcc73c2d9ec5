"""One YAML file a run, plus `a.b.0.c=value` overrides, read once and strictly; then plain objects.

A component (encoder, objective) is named by its module; its keys are the arguments of its `__init__`.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from pydantic import Field

from mmssl.data.index import Kind
from mmssl.encoders.base import Encoder, encoder_class
from mmssl.objectives.base import Objective, objective_class
from mmssl.rng import Purpose, seed_for
from mmssl.schema import Problem, Strict, arguments_for, validate, validate_model
from mmssl.training.settings import TrainConfig
from mmssl.types import Backend, InputError

TRAIN_LEAST = {  # what the values of `train` may not be below
    "steps": 1,
    "accumulate": 1,
    "gradients_every": 0,
    "keep": 1,
    "save_every": 1,
    "log_every": 1,
    "max_nonfinite": 1,
    "lr": 0,
    "clip": 0,
    "workers": -1,
}


class StreamConfig(Strict):
    """One stream: a corpus, how much of it is held out, and the objectives that it feeds."""

    data: str  # a folder of clips or of text files, or a manifest written by `mmssl index`
    kind: Kind = "auto"  # of a folder: its media, its text files, or text only where there is no media
    batch: int = Field(default=64, ge=1)  # rows in a global micro-batch
    views_per_open: int = Field(default=1, ge=1)  # cuts taken each time a file is opened
    backend: Backend = "pyav"  # what decodes; `mmssl doctor` tells which work here
    holdout: float | int = 0.1  # share of the sources (below 1), or how many (1 or more), kept for evaluation
    holdout_by: str | None = None  # regular expression: sources whose ids match with the same text stay together
    min_usable: float = Field(default=0.5, ge=0, le=1)  # share of sources that all objectives must accept
    max_replaced: float = Field(default=0.01, ge=0, le=1)  # share of rows that may come from replacement files
    objectives: list[dict[str, Any]]  # each: name, weight, and the objective's own arguments


class _Top(Strict):
    seed: int = Field(default=0, ge=0)
    encoders: dict[str, dict[str, Any]]
    streams: list[StreamConfig] = Field(min_length=1)
    train: dict[str, Any]


@dataclass(frozen=True, slots=True)
class RunConfig:
    """A resolved config: every default filled in. `resolved` is what config.yaml of a run holds."""

    resolved: dict[str, Any]

    @property
    def seed(self) -> int:
        """Of everything random in the run."""
        return self.resolved["seed"]

    @property
    def streams(self) -> list[StreamConfig]:
        """The streams, with their objectives as resolved mappings."""
        return [StreamConfig.model_validate(stream) for stream in self.resolved["streams"]]

    @property
    def train(self) -> TrainConfig:
        """How to train."""
        return TrainConfig(**arguments_for(TrainConfig, self.resolved["train"]))

    @property
    def weights(self) -> dict[str, float]:
        """Objective -> weight of its loss."""
        return {short_name(item["name"]): item["weight"] for stream in self.resolved["streams"] for item in stream["objectives"]}

    def dump(self) -> str:
        """As YAML."""
        return yaml.safe_dump(self.resolved, sort_keys=False, width=120)

    def build_encoders(self) -> dict[str, Encoder]:
        """Encoders by role, with initial weights decided by the seed."""
        torch.manual_seed(seed_for(self.seed, Purpose.INIT, 0))
        return {role: _build_encoder(values) for role, values in self.resolved["encoders"].items()}

    def build_objectives(self, encoders: Mapping[str, Encoder]) -> dict[str, Objective]:
        """Objectives by name, heads initialised by the seed.

        Raises:
            InputError: an objective needs a role that has no encoder, or one of another modality.
        """
        torch.manual_seed(seed_for(self.seed, Purpose.INIT, 1))
        built: dict[str, Objective] = {}
        for number, stream in enumerate(self.resolved["streams"]):
            for place, item in enumerate(stream["objectives"]):
                values = {key: value for key, value in item.items() if key not in ("name", "weight")}
                cls = objective_class(item["name"])
                _check_roles(cls, item["name"], encoders, f"streams.{number}.objectives.{place}")
                built[short_name(item["name"])] = cls(encoders=encoders, **arguments_for(cls, values))
        return built


def load_config(path: Path | str, overrides: Sequence[str] = ()) -> RunConfig:
    """Read, override, check and resolve a config file.

    Raises:
        InputError: all problems at once, each with its path and, for a misspelt key, the nearest valid one.
    """
    path = Path(path)
    raw = read_plain(path)
    for text in overrides:
        _override(raw, text)
    return resolve(raw, str(path))


def read_plain(path: Path) -> dict[str, Any]:
    """What a config file says, as plain values: nothing is checked, overridden or looked up.

    Raises:
        InputError: there is no such file, or it is no YAML mapping.
    """
    if not path.is_file():
        raise InputError(f"there is no config {path}; the ones that come with mmssl are in configs/")
    try:
        raw = yaml.load(path.read_text(encoding="utf-8"), Loader=_UniqueKeys)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(raw, dict):
        raise InputError(f"{path} must hold a mapping (encoders, streams, train), it holds {type(raw).__name__}")
    return raw


def resolve(raw: Mapping[str, Any], origin: str = "config") -> RunConfig:
    """Check a config given as plain values and fill in every default (the Python form of `load_config`)."""
    top, problems = validate_model(_Top, copy.deepcopy(dict(raw)), "")
    if not problems:
        problems += _resolve_encoders(top)
        problems += _resolve_objectives(top)
        top["train"], more = validate(TrainConfig, top["train"], "train")
        problems += more or _check_train(top["train"])
    if problems:
        listed = "\n".join(f"  {problem}" for problem in problems)
        raise InputError(f"{origin} has {len(problems)} problem{'s' * (len(problems) > 1)}:\n{listed}")
    return RunConfig(top)


def _resolve_encoders(top: dict[str, Any]) -> list[Problem]:
    problems: list[Problem] = []
    for role, values in top["encoders"].items():
        path = f"encoders.{role}"
        resolved, more = _resolve_component(values, path, encoder_class, extra=())
        problems += more
        top["encoders"][role] = resolved
    return problems


def _resolve_objectives(top: dict[str, Any]) -> list[Problem]:
    problems: list[Problem] = []
    seen: dict[str, str] = {}
    for number, stream in enumerate(top["streams"]):
        if not stream["objectives"]:
            problems.append(Problem(f"streams.{number}.objectives", "is empty; name at least one objective"))
        for place, values in enumerate(stream["objectives"]):
            path = f"streams.{number}.objectives.{place}"
            resolved, more = _resolve_component(values, path, objective_class, extra=("weight",))
            problems += more
            stream["objectives"][place] = resolved
            name = short_name(resolved.get("name", ""))
            if name in seen:
                problems.append(
                    Problem(path, f"objective {name} stands already at {seen[name]}; a run trains each objective once")
                )
            elif name:
                seen[name] = path
    return problems


def _resolve_component(
    values: dict[str, Any], path: str, find: Any, extra: tuple[str, ...]
) -> tuple[dict[str, Any], list[Problem]]:
    name = values.get("name")
    if not isinstance(name, str):
        return {}, [Problem(f"{path}.name", "is required: the name of a module")]
    try:
        cls = find(name)
    except InputError as error:
        return {}, [Problem(f"{path}.name", str(error))]
    arguments = {key: value for key, value in values.items() if key not in ("name", *extra)}
    resolved, problems = validate(cls, arguments, path)
    head: dict[str, Any] = {"name": name}
    if "weight" in extra:
        weight = values.get("weight", 1.0)
        if isinstance(weight, bool) or not isinstance(weight, int | float) or not weight >= 0:
            problems.append(Problem(f"{path}.weight", f"must be a number of at least 0, got {weight!r}"))
        else:
            head["weight"] = float(weight)
    return {**head, **resolved}, problems


def _check_train(train: Mapping[str, Any]) -> list[Problem]:
    return [
        Problem(f"train.{key}", f"must be at least {low}, got {train[key]}")
        for key, low in TRAIN_LEAST.items()
        if train[key] < low
    ]


def _check_roles(cls: type[Objective], name: str, encoders: Mapping[str, Encoder], path: str) -> None:
    for role, modalities in cls.roles.items():
        if role not in encoders:
            raise InputError(
                f"{path}: {name} needs an encoder for role {role!r} ({' or '.join(modalities)}); encoders has {', '.join(encoders)}"
            )
        if encoders[role].modality not in modalities:
            raise InputError(
                f"{path}: {name} takes a {' or '.join(modalities)} encoder for role {role!r}, {encoders[role].name} is a {encoders[role].modality} encoder"
            )


def _build_encoder(values: Mapping[str, Any]) -> Encoder:
    cls = encoder_class(values["name"])
    return cls(**arguments_for(cls, {key: value for key, value in values.items() if key != "name"}))


def _override(raw: dict[str, Any], text: str) -> None:
    path, mark, value = text.partition("=")
    if not mark or not path:
        raise InputError(f"{text!r} is no override; write key.path=value, for example train.steps=200")
    parts = path.split(".")
    node: Any = raw
    for depth, part in enumerate(parts[:-1]):
        node = _descend(node, part, ".".join(parts[: depth + 1]))
    last = parts[-1]
    parsed = yaml.safe_load(value) if value else None
    if isinstance(node, list):
        node[_place(node, last, path)] = parsed
    else:
        node[last] = parsed


def _descend(node: Any, part: str, path: str) -> Any:
    if isinstance(node, list):
        return node[_place(node, part, path)]
    if part not in node or node[part] is None:
        node[part] = {}
    if not isinstance(node[part], dict | list):
        raise InputError(f"{path} is the value {node[part]!r}, so nothing below it can be set")
    return node[part]


def _place(node: list[Any], part: str, path: str) -> int:
    if not part.isdigit() or int(part) >= len(node):
        raise InputError(f"{path}: {part!r} is no position in a list of {len(node)}; positions count from 0")
    return int(part)


class _UniqueKeys(yaml.SafeLoader):
    """YAML that refuses a key given twice (PyYAML would keep the last)."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Build a mapping, refusing repeated keys."""
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} stands twice", node.start_mark)
        return super().construct_mapping(node, deep)


def short_name(name: str) -> str:
    """What an objective is called in batches, logs and checkpoints: the last part of a dotted name."""
    return name.rpartition(".")[2]


def identity(config: RunConfig) -> dict[str, Any]:
    """The resolved config as plain JSON values, for comparison on resume."""
    return json.loads(json.dumps(config.resolved))
