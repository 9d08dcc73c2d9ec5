"""The model card of an exported folder, filled from the run: what it is, what it saw, what was measured, how to load it.

Nothing is said that the run does not know. A licence is claimed only where one is given.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData
from jinja2 import Environment, PackageLoader, StrictUndefined

from mmssl.catalogue import describe
from mmssl.config import short_name
from mmssl.downstream.evaluation_table import figure_rows
from mmssl.downstream.pairing import Corresponds, cut_shape
from mmssl.downstream.report import data_rows
from mmssl.encoder_catalogue import input_in_words, preparation_in_words
from mmssl.files import write_aside
from mmssl.objectives.base import Embeds
from mmssl.run import Run

CARD_FILE = "README.md"
MODALITY_TAGS = {"frame": "image", "video": "video", "audio": "audio", "text": "text", "flow": "optical-flow"}


def write_card(
    path: Path,
    run: Run,
    manifest: Mapping[str, Any],
    training: Mapping[str, Any],
    evaluations: Mapping[str, Mapping[str, Any]],
    *,
    license: str,
    name: str,
) -> None:
    """Write README.md.

    Args:
        path: of the card.
        run: the model.
        manifest: what export.json says.
        training: the config without paths.
        evaluations: file name -> content, of this very checkpoint; "evaluation.json" is that on held-out sources.
        license: identifier of the hub's.
        name: title.
    """
    environment = Environment(
        loader=PackageLoader("mmssl.export"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    held_out = evaluations.get("evaluation.json", {}).get("objectives", {})
    body = environment.get_template("card.md.j2").render(
        name=name,
        license=license,
        manifest=manifest,
        roles=_roles(run, manifest),
        objectives=[_objective(key, run) for key in manifest["objectives"]],
        data=data_rows(manifest["data"]),
        corpora=_corpora(training),
        train=training["train"],
        batches=[stream["batch"] for stream in training["streams"]],
        started_from={role: values["weights"] for role, values in training["encoders"].items() if values.get("weights")},
        figures={key: _table(values) for key, values in held_out.items()},
        elsewhere=list(_elsewhere(evaluations)),
        programs=manifest["programs"],
        snippets=list(_snippets(manifest)),
    )
    front = _front_matter(manifest, training, held_out, license=license, name=name)
    write_aside(path, f"---\n{front}---\n\n{body}".encode())


def _front_matter(
    manifest: Mapping[str, Any], training: Mapping[str, Any], held_out: Mapping[str, Any], *, license: str, name: str
) -> str:
    roles = manifest["roles"].values()
    tags = ["mmssl", "self-supervised-learning", *(MODALITY_TAGS[role["modality"]] for role in roles), *manifest["objectives"]]
    results = list(_results(manifest["objectives"], held_out, "/".join(_corpora(training))))
    data = ModelCardData(
        license=license,
        library_name="mmssl",
        pipeline_tag="feature-extraction",
        tags=list(dict.fromkeys(tags)),
        model_name=name if results else None,
        eval_results=results or None,
    )
    return data.to_yaml() + "\n"


def _results(objectives: list[str], held_out: Mapping[str, Any], corpus: str) -> Iterator[EvalResult]:
    for objective in objectives:
        for what, entry, _ in figure_rows(held_out.get(objective, {})):
            yield EvalResult(
                task_type="feature-extraction",
                dataset_type=corpus.replace("/", "-") or "custom",
                dataset_name=f"{corpus}, {entry['n']} held-out clips",
                metric_type=re.sub(r"[^a-z0-9@]+", "_", what.lower()).strip("_"),
                metric_name=f"{objective}: {what}",
                metric_value=round(float(entry["value"]), 4),
            )


def _roles(run: Run, manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for role, entry in manifest["roles"].items():
        encoder = run.encoders[role]
        rows.append(
            {
                "role": role,
                "folder": entry["folder"],
                "name": entry["encoder"],
                "size": encoder.arguments.get("size", ""),
                "modality": entry["modality"],
                "millions": f"{entry['parameters'] / 1e6:.2f}",
                "dim": entry["dim"],
                "takes": input_in_words(encoder),
                "prepares": preparation_in_words(encoder),
                "theirs": entry["transformers"],
            }
        )
    return rows


def _objective(name: str, run: Run) -> dict[str, Any]:
    items = [item for stream in run.config.resolved["streams"] for item in stream["objectives"]]
    told = describe(next(item["name"] for item in items if short_name(item["name"]) == name))
    objective = run.objectives[name]
    cut = cut_shape(name, objective) if isinstance(objective, Corresponds) else None
    seen = ""
    if cut is not None:
        pictures = "one picture" if cut.frames == 1 else f"{cut.frames} pictures"
        seen = f"{pictures} of {cut.size[0]} x {cut.size[1]} with {cut.seconds:g} s of sound at {cut.rate} Hz"
    return {
        "name": name,
        "what": told["what"],
        "explanation": told["explanation"],
        "joint": isinstance(objective, Embeds),
        "seen": seen,
    }


def _corpora(training: Mapping[str, Any]) -> list[str]:
    return list(dict.fromkeys(stream["data"] for stream in training["streams"]))


def _table(figures: Mapping[str, Any]) -> dict[str, Any]:
    rows: list[dict[str, str]] = []
    for what, entry, against in figure_rows(figures):
        digits = 1 if "rank" in what else 3
        text = {key: f"{entry[key]:.{digits}f}" for key in ("value", "low", "high")}
        rows.append({"what": what, "against": against, "n": str(entry["n"]), **text})
    return {"sources": figures["sources"], "failed": len(figures["failed"]), "rows": rows}


def _elsewhere(evaluations: Mapping[str, Mapping[str, Any]]) -> Iterator[dict[str, str]]:
    """The first figure of each objective on other data than what the run held out."""
    for content in (values for key, values in evaluations.items() if key != "evaluation.json"):
        for name, figures in content["objectives"].items():
            for row in _table(figures)["rows"][:1]:
                yield {"data": str(content["data"]), "objective": name, **row}


def _snippets(manifest: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(library, code that runs its file), one of each format."""
    seen: set[str] = set()
    for program in manifest["programs"]:
        if program["format"] in seen:
            continue
        seen.add(program["format"])
        name = program["input"]
        what = f"# {name}: {_in_numbers(manifest['roles'][program['role']]['input'])}"
        outputs = ", ".join(program["outputs"])
        if program["format"] == "torch":
            yield "torch", f'{what}\nprogram = torch.export.load("{program["file"]}").module()\n{outputs} = program({name})'
        else:
            session = f'session = onnxruntime.InferenceSession("{program["file"]}")'
            yield "onnxruntime", f'{what}\n{session}\n{outputs} = session.run(None, {{"{name}": {name}}})'


def _in_numbers(takes: Mapping[str, Any]) -> str:
    """The input of a program: its shape, with the sizes that the encoder was built for, and its type."""
    shape = str(takes["shape"]).replace("H x W", f"{takes.get('size')} x {takes.get('size')}")
    kind = {"pictures": "uint8 RGB", "flow": "float32, pixels for one step", "samples": "float32, mono, -1..1", "ids": "int64"}
    last = "pictures" if "3 x" in shape else "flow" if "2 x" in shape else "samples" if "samples" in shape else "ids"
    return f"{shape}, {kind[last]}"
