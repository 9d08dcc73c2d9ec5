"""A run into a folder that others can use: weights, heads, card, programs, each part checked before the folder appears."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from mmssl.config import RunConfig, short_name
from mmssl.downstream.evaluation_file import read_evaluation, write_evaluation
from mmssl.downstream.report import read_data
from mmssl.encoder_catalogue import input_of, preparation_of
from mmssl.encoders.base import Encoder
from mmssl.export.card import CARD_FILE, write_card
from mmssl.export.onnx_file import FILE as ONNX_FILE
from mmssl.export.onnx_file import OPSET, require_onnx, write_onnx
from mmssl.export.program import INPUTS, Program, trace
from mmssl.export.theirs import FOLDER as THEIRS_FOLDER
from mmssl.export.theirs import write_theirs
from mmssl.export.torch_file import FILE as TORCH_FILE
from mmssl.export.torch_file import write_torch
from mmssl.exported import EXPORT_FILE, FORMAT, HEADS_FILE, TRAINING_FILE, heads_of, is_exported, read_manifest
from mmssl.files import sync, write_aside
from mmssl.objectives.base import Embeds, Objective
from mmssl.run import Run, load_run
from mmssl.training.errors import RunError
from mmssl.types import InputError

FORMATS = ("safetensors", "torch", "onnx")
LICENCE = re.compile(r"[a-z0-9][a-z0-9.+-]*")  # the hub's identifiers: apache-2.0, cc-by-4.0, mit
UNKNOWN_LICENCE = "unknown"
HEADING = f"# How this model was trained. Here, `mmssl train {TRAINING_FILE} streams.0.data=CLIPS --out RUN` does it again with the clips of a folder.\n"


@dataclass(frozen=True, slots=True)
class Export:
    """What was written."""

    folder: Path
    roles: list[str]
    objectives: list[str]
    programs: list[dict[str, Any]]  # role, format, file, check: see export.json
    theirs: dict[str, dict[str, Any] | str]  # role -> how transformers loads it, or why it cannot
    size: int  # bytes


def export_run(
    run: Path,
    out: Path,
    *,
    roles: Sequence[str] = (),
    formats: Sequence[str] = ("safetensors",),
    license: str | None = None,
    objective: str | None = None,
    step: int | None = None,
    on_part: Callable[[str], None] = lambda _: None,
) -> Export:
    """Write the model of a run (or of an exported folder) into the new folder `out`.

    Weights are always written, as safetensors. The folder is made beside `out` and put in place when all of it is there and checked.

    Args:
        run: folder of a run, or an exported one.
        out: new or empty folder.
        roles: encoders to take; empty: all. The files of a single one lie in `out` itself, those of several in folders of their names.
        formats: "torch" adds a `torch.export` program of each encoder, "onnx" an ONNX file.
        license: identifier for the card ("apache-2.0"); None claims none.
        objective: whose joint embedding the programs give; None: the first that has one.
        step: of the checkpoint; None: the newest.
        on_part: told the name of each part before it is made.

    Raises:
        InputError: no such run, role, format or objective; `out` holds something; a package is missing; an operator cannot be exported.
        RunError: an exported program computes something else than the encoder.
    """
    _refuse(out, formats, license)
    loaded = load_run(run, step=step)
    chosen = _roles(loaded, roles)
    objectives = {name: o for name, o in loaded.objectives.items() if set(o.roles) <= set(chosen)}
    head = _joint(objectives, objective)
    folders = {role: "." if len(chosen) == 1 else role for role in chosen}
    programs: list[dict[str, Any]] = []
    theirs: dict[str, dict[str, Any] | str] = {}
    with _whole(out) as part:
        for role, encoder in chosen.items():
            on_part(f"{role}: weights")
            folder = part / folders[role]
            encoder.save_pretrained(folder)
            found = write_theirs(encoder, folder / THEIRS_FOLDER)
            theirs[role] = found if isinstance(found, str) else found | {"folder": str(Path(folders[role], THEIRS_FOLDER))}
            for made in _programs(role, encoder, objectives.get(head or ""), formats, folder, on_part):
                programs.append(
                    made | {"file": str(Path(folders[role], made["file"])), "embedding_of": _embeds(objectives, head, role)}
                )
        on_part("card")
        if objectives:
            write_aside(part / HEADS_FILE, safetensors.torch.save(heads_of(objectives)))
        training = plain_config(loaded, folders)
        write_aside(part / TRAINING_FILE, (HEADING + RunConfig(training).dump()).encode())
        manifest = _manifest(loaded, folders, theirs, objectives, head) | {"programs": programs}
        write_aside(part / EXPORT_FILE, json.dumps(manifest, indent=2).encode())
        evaluations = evaluations_of(loaded)
        for name, content in evaluations.items():
            write_evaluation(part / name, content)
        card = {"license": license or UNKNOWN_LICENCE, "name": out.resolve().name}
        write_card(part / CARD_FILE, loaded, manifest, training, evaluations, **card)
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    return Export(out, list(chosen), list(objectives), programs, theirs, size)


def evaluations_of(run: Run) -> dict[str, dict[str, Any]]:
    """File name -> content of a run's evaluations of this very checkpoint, without the names of files that failed."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(run.path.glob("evaluation*.json")):
        name = path.stem.removeprefix("evaluation").removeprefix("-") or None
        content = read_evaluation(run.path, name)
        if content is None or content.get("step") != run.step:
            continue
        figures = {key: values | {"failed": _numbered(values.get("failed", {}))} for key, values in content["objectives"].items()}
        found[path.name] = content | {"data": Path(str(content.get("data", ""))).name, "objectives": figures}
    return found


def _numbered(failed: Mapping[str, str]) -> dict[str, str]:
    return {f"source {number}": "could not be decoded" for number in range(1, len(failed) + 1)}


def plain_config(run: Run, folders: Mapping[str, str]) -> dict[str, Any]:
    """The config of a run without the paths of the machine that trained it: data by name, tokenizers as they lie in the export."""
    config = _names_only(run.config.resolved)
    for role, values in config["encoders"].items():
        if values.get("tokenizer"):
            values["tokenizer"] = str(Path(folders[role], "tokenizer.json")) if role in folders else None
    for stream in config["streams"]:
        stream["data"] = Path(stream["data"]).name
        for item in stream["objectives"]:
            if isinstance(item.get("views"), dict) and item["views"].get("tokenizer"):
                item["views"]["tokenizer"] = None  # that of the encoder, which is the same
    return config


def _names_only(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _names_only(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_names_only(inner) for inner in value]
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value


def _refuse(out: Path, formats: Sequence[str], license: str | None) -> None:
    unknown = [name for name in formats if name not in FORMATS]
    if unknown:
        raise InputError(f"--format is {', '.join(unknown)}; there are {', '.join(FORMATS)}")
    if license is not None and not LICENCE.fullmatch(license):
        raise InputError(f"--license is {license!r}; give an identifier of the hub's, such as apache-2.0, mit or cc-by-4.0")
    if out.resolve() == Path.cwd():
        raise InputError(f"{out} is the folder that you are in; give a new one, such as {out.resolve() / 'my-model'}")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(
            f"{out} exists and is not empty; give a new folder, so that nothing of another export is left among the files"
        )
    if "onnx" in formats:
        require_onnx()


def _roles(run: Run, roles: Sequence[str]) -> dict[str, Encoder]:
    unknown = [role for role in roles if role not in run.encoders]
    if unknown:
        raise InputError(f"{run.path} has no encoder {', '.join(unknown)}; it has {', '.join(run.encoders)}")
    return {role: encoder for role, encoder in run.encoders.items() if not roles or role in roles}


def _joint(objectives: Mapping[str, Objective], name: str | None) -> str | None:
    able = [key for key, objective in objectives.items() if isinstance(objective, Embeds)]
    if name is not None and name not in able:
        raise InputError(
            f"objective {name} is not exported or has no joint space; of what is exported these have one: {', '.join(able) or 'none'}"
        )
    return name or (able[0] if able else None)


def _embeds(objectives: Mapping[str, Objective], head: str | None, role: str) -> str | None:
    return head if head is not None and role in objectives[head].roles else None


def _programs(
    role: str, encoder: Encoder, objective: Objective | None, formats: Sequence[str], folder: Path, on_part: Callable[[str], None]
) -> Iterator[dict[str, Any]]:
    if not {"torch", "onnx"} & set(formats):
        return
    on_part(f"{role}: tracing")
    traced = trace(Program(encoder, role, objective if objective is not None and role in objective.roles else None))
    told = {
        "input": INPUTS[encoder.modality],
        "outputs": traced.program.outputs,
        "free_axes": {str(k): v for k, v in traced.free.items()},
    }
    facts = {"encoder": encoder.name, "role": role, "input": input_of(encoder)}
    if "torch" in formats:
        on_part(f"{role}: torch.export")
        found = write_torch(traced, folder / TORCH_FILE)
        yield {"role": role, "format": "torch", "file": TORCH_FILE, **told, "torch": torch.__version__, "check": found.as_json()}
    if "onnx" in formats:
        on_part(f"{role}: ONNX")
        found = write_onnx(traced, folder / ONNX_FILE, facts)
        versions = {"opset": OPSET, "onnxruntime": metadata.version("onnxruntime")}
        yield {"role": role, "format": "onnx", "file": ONNX_FILE, **told, **versions, "check": found.as_json()}


def _manifest(
    run: Run,
    folders: Mapping[str, str],
    theirs: Mapping[str, dict[str, Any] | str],
    objectives: Mapping[str, Objective],
    head: str | None,
) -> dict[str, Any]:
    before = read_manifest(run.path) if is_exported(run.path) else {}
    trained = [short_name(item["name"]) for stream in run.config.resolved["streams"] for item in stream["objectives"]]
    return {
        "format": FORMAT,
        "mmssl": metadata.version("mmssl"),
        "run": before.get("run", run.path.resolve().name),
        "step": run.step,
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "roles": {role: _role(run.encoders[role], folder) | {"transformers": theirs[role]} for role, folder in folders.items()},
        "objectives": list(objectives),
        "left_out": [name for name in trained if name not in objectives],
        "joint_space": head,
        "data": before.get("data", read_data(run.path)),
    }


def _role(encoder: Encoder, folder: str) -> dict[str, Any]:
    return {
        "folder": folder,
        "encoder": encoder.name,
        "modality": encoder.modality,
        "dim": encoder.dim,
        "parameters": sum(parameter.numel() for parameter in encoder.parameters()),
        "input": input_of(encoder),
        "preparation": preparation_of(encoder),
    }


@contextmanager
def _whole(out: Path) -> Iterator[Path]:
    """A folder beside `out` that takes its place when the block ends well, and leaves nothing behind when it does not."""
    part = out.with_name(f".{out.name}.{os.getpid()}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        part.mkdir(parents=True)
        yield part
        for path in [*part.rglob("*"), part]:
            sync(path)
        if out.is_dir():
            out.rmdir()
        part.rename(out)
    except (OSError, safetensors.SafetensorError) as error:  # safetensors wraps the system's errors in its own
        raise RunError(
            f"{out} could not be written: {error}; nothing of it is left; make room, then run the same command again"
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    sync(out.parent)
