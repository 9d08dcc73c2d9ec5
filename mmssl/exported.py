"""An exported folder, as `mmssl export` writes it: where its parts lie, and back to encoders and objectives.

    export.json         what is inside, and how each part was checked
    config.yaml         how it was trained; paths are cut down to names
    <role>/             config.json, model.safetensors (and tokenizer.json): an encoder, as `Encoder.from_pretrained` takes it
    heads.safetensors   the objectives' own weights, by objective

Where one role was exported, its files lie in the folder itself. Only JSON, YAML and safetensors are read here: nothing is unpickled.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor

from mmssl.config import RunConfig, load_config, read_plain, short_name
from mmssl.encoders.base import CONFIG_FILE as ENCODER_FILE
from mmssl.encoders.base import Encoder
from mmssl.nn.queue import RowQueue
from mmssl.objectives.base import Objective
from mmssl.types import InputError

EXPORT_FILE, TRAINING_FILE, HEADS_FILE = "export.json", "config.yaml", "heads.safetensors"
FORMAT = 1  # of export.json


@dataclass(frozen=True, slots=True)
class Exported:
    """What an exported folder holds, in eval mode on the CPU."""

    path: Path
    config: RunConfig
    step: int
    encoders: dict[str, Encoder]
    objectives: dict[str, Objective]


def is_exported(folder: Path) -> bool:
    """Whether `mmssl export` wrote this folder."""
    return (folder / EXPORT_FILE).is_file()


def read_manifest(folder: Path) -> dict[str, Any]:
    """What export.json says. Raises `InputError` where it is damaged or of a newer mmssl."""
    path = folder / EXPORT_FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        known, roles = content["format"], {role: str(entry["folder"]) for role, entry in content["roles"].items()}
        step, objectives = int(content["step"]), list(content["objectives"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is no list of an exported model ({error!r}); export the run again") from error
    if known != FORMAT:
        raise InputError(
            f"{path} is of format {known}, this mmssl reads format {FORMAT}; use the mmssl that wrote it, or export again"
        )
    outside = [name for name in roles.values() if name != "." and Path(name).name != name]
    if outside or not roles:
        raise InputError(f"{path} names {', '.join(outside) or 'no encoder'}; encoders lie in the folder or one below it")
    return content | {"step": step, "objectives": objectives}


def read_exported(folder: Path) -> Exported:
    """Rebuild what was exported.

    Raises:
        InputError: something is missing, damaged, or does not fit its configuration.
    """
    manifest = read_manifest(folder)
    config = load_config(folder / TRAINING_FILE)
    encoders = {role: Encoder.from_pretrained(folder / entry["folder"]).eval() for role, entry in manifest["roles"].items()}
    return Exported(folder, config, manifest["step"], encoders, _objectives(folder, manifest["objectives"], config, encoders))


def heads_of(objectives: Mapping[str, Objective]) -> dict[str, Tensor]:
    """What is kept of objectives, by `<objective>.<name>`: all but queues, which serve training alone and remember its clips."""
    return {
        f"{name}.{key}": value.detach().cpu().contiguous().clone()
        for name, objective in objectives.items()
        for key, value in objective.state_dict().items()
        if key not in _queued(objective)
    }


def foreign(folder: Path, modules: Sequence[str] = ()) -> list[str]:
    """What loading this folder would import or fetch beyond mmssl: modules of other packages but `modules`, weights and files elsewhere.

    For folders that someone else wrote: an encoder or objective may be named by any module that is installed here. Nothing is imported.
    """
    found: list[str] = []
    named: list[str] = []
    for entry in read_manifest(folder)["roles"].values():
        config = _json(folder / entry["folder"] / ENCODER_FILE)
        named.append(str(config.get("encoder", "")))
        arguments, attached = _mapping(config.get("arguments")), _mapping(config.get("attached"))
        # A saved encoder never names weights; a slash in a transformer's configuration is the name of something on the hub.
        more = {key: value for key, value in _mapping(arguments.get("config")).items() if "/" in str(value)}
        more |= {key: arguments[key] for key in ("weights", "tokenizer") if arguments.get(key) and key not in attached}
        found += [f"{key} {value}" for key, value in more.items()]
        found += [f"the file {name}" for name in attached.values() if Path(str(name)).name != name]
    try:
        training = read_plain(folder / TRAINING_FILE)
        items = [item for stream in training["streams"] for item in stream["objectives"]]
        named += [str(item["name"]) for item in [*items, *training["encoders"].values()]]
        found += [f"tokenizer {item['views']['tokenizer']}" for item in items if _mapping(item.get("views")).get("tokenizer")]
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{folder / TRAINING_FILE} is no config of a run ({error!r})") from error
    known = ("mmssl", *modules)
    return [f"the module {name}" for name in dict.fromkeys(named) if "." in name and name.split(".")[0] not in known] + found


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is no config of an encoder: {error}") from error
    return dict(_mapping(content))


def _objectives(folder: Path, names: list[str], config: RunConfig, encoders: Mapping[str, Encoder]) -> dict[str, Objective]:
    if not names:
        return {}
    kept = [
        {**stream, "objectives": [item for item in stream["objectives"] if short_name(item["name"]) in names]}
        for stream in config.resolved["streams"]
    ]
    built = RunConfig(config.resolved | {"streams": kept}).build_objectives(encoders)
    path = folder / HEADS_FILE
    try:
        tensors = safetensors.torch.load_file(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise InputError(f"{path} cannot be read as safetensors ({error}); export the run again") from error
    for name, objective in built.items():
        state = {key.removeprefix(f"{name}."): value for key, value in tensors.items() if key.startswith(f"{name}.")}
        wrong = (set(objective.state_dict()) - _queued(objective)) ^ set(state)
        if wrong:
            raise InputError(f"{path} does not fit objective {name} of {TRAINING_FILE}: {', '.join(sorted(wrong)[:3])}")
        try:
            objective.load_state_dict(state, strict=False)
        except RuntimeError as error:
            raise InputError(f"{path} does not fit objective {name} of {TRAINING_FILE}: {error}") from error
        objective.eval()
    return built


def _queued(objective: Objective) -> set[str]:
    queues = [(name, module) for name, module in objective.named_modules() if isinstance(module, RowQueue)]
    return {f"{name}.{key}" for name, module in queues for key in module.state_dict()}
