"""The outcome of a probe: plain values for a file, and a table for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.table import Table

from mmssl.downstream.probe.probes import Bench, Result
from mmssl.downstream.probe.scoring import figures

LISTED = 50  # missing clips by name in the file; the count is always whole
NAMES = {"top1": "top-1", "top5": "top-5", "mAP": "mAP"}


def outcome(result: Result, bench: Bench) -> dict[str, Any]:
    """Everything that was measured and how, as JSON values."""
    labelled, listing = result.labelled, result.labelled.listing
    contenders = []
    reference = {trial.variant: trial for trial in result.trials if trial.contender == result.trials[0].contender}
    for trial in result.trials:
        trained = reference.get(trial.variant, result.trials[0])
        found = {name: figure.as_json() for name, figure in figures(labelled, trial, result.splits).items()}
        if trial.contender != trained.contender:
            for name, figure in figures(labelled, trained, result.splits, less=trial).items():
                found[name]["trained_minus_this"] = figure.overall._asdict()
        contenders.append({"name": trial.contender, "variant": trial.variant, "figures": found, "fitting": list(trial.about)})
    apart = bool(result.settings.get("leave_one_out"))
    return {
        "probe": result.probe,
        "set": f"{labelled.title}, leave one out" if apart else labelled.title,
        "protocol": listing.protocol if labelled.whole and not apart else None,  # a part of a protocol does not bear its name
        "clips": {"used": len(labelled.items), "expected": labelled.expected, "missing": _some(labelled.missing)},
        "classes": len(listing.classes),
        "splits": [
            {"name": split.name, "learnt_from": len({*split.train, *split.validation}), "tested_on": len(split.test)}
            for split in result.splits
        ],
        "notes": [*listing.problems, *listing.notes, *listing.shared_groups, *_cut(result)],
        "stream": "audio" if bench.cut.sound else "video",
        "views": bench.views,
        "seed": bench.seed,
        "encoder": {"name": bench.encoder.name, "arguments": bench.encoder.arguments},
        "settings": result.settings,
        "contenders": contenders,
    }


def title(found: Mapping[str, Any]) -> str:
    """What was asked of what, in a line."""
    splits = found["splits"]
    tested = (
        f"{splits[0]['tested_on']} clips"
        if len(splits) == 1
        else f"{len(splits)} splits, {sum(s['tested_on'] for s in splits)} tests"
    )
    return f"{found['probe']} on {found['set']}: {found['classes']} classes, {tested}, {found['views']} view{'s' * (found['views'] > 1)} a clip"


def called(contender: Mapping[str, Any]) -> str:
    """What a contender of `outcome` is called in a table."""
    return f"{contender['name']}, {contender['variant']}" if contender["variant"] else contender["name"]


def outcome_table(found: Mapping[str, Any]) -> Table:
    """A row for each contender and figure, with its interval and how much better the trained encoder is."""
    table = Table(title=title(found), title_justify="left")
    table.add_column("features")
    for name in ("figure", "value", "95 % interval", "groups", "trained minus this"):
        table.add_column(name, justify="right")
    for row in _rows(found):
        table.add_row(*row)
    return table


def warnings_of(found: Mapping[str, Any]) -> list[str]:
    """What a reader should know before believing a figure."""
    lines = list(found["notes"])
    missing = found["clips"]["missing"]
    if missing["count"]:
        lines.append(f"{missing['count']} of {found['clips']['expected']} clips are missing, so this is not the protocol")
    for contender in found["contenders"]:
        fits = contender["fitting"]
        if any(fit.get("at_edge_of_sweep") for fit in fits):
            lines.append(f"{contender['name']}: the best C lies at the end of the sweep, a better one may lie beyond")
        if not all(fit.get("converged", True) for fit in fits):
            lines.append(f"{contender['name']}: L-BFGS stopped before it converged")
        if any(fit.get("validation_clips") == 0 for fit in fits):
            lines.append(
                f"{contender['name']}: no class has two groups to cut a validation part from, so C was not chosen but taken"
            )
    return lines


def _cut(result: Result) -> Iterator[str]:
    if all(split.name.startswith("fold ") for split in result.splits):
        items = result.labelled.items
        unit = "file" if len({item.group for item in items}) == len(items) else "group"
        yield f"cut into folds by {unit}, each tested on what the others teach"


def _rows(found: Mapping[str, Any]) -> Iterator[list[str]]:
    for contender in found["contenders"]:
        name = called(contender)
        for measure, figure in contender["figures"].items():
            better = figure.get("trained_minus_this")
            by = "" if better is None else f"{better['value']:+.3f} ({better['low']:+.3f} to {better['high']:+.3f})"
            interval = f"{figure['low']:.3f} to {figure['high']:.3f}"
            yield [name, NAMES[measure], f"{figure['value']:.3f}", interval, str(figure["n"]), by]


def _some(missing: Mapping[str, str]) -> dict[str, Any]:
    return {"count": len(missing), "why": dict(list(missing.items())[:LISTED])}
