"""One self-contained HTML page of a run: what it learnt, how that was measured, what it looks like, how it was trained."""

from __future__ import annotations

import json
import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from mmssl.downstream.evaluation_table import NAMES, figure_rows
from mmssl.downstream.examples import Found, Located
from mmssl.downstream.plots import Line, curves, intervals
from mmssl.files import write_aside

PACKAGES = ("mmssl", "torch", "torchvision", "torchaudio", "transformers", "av", "numpy", "opencv-python-headless", "pyarrow")


@dataclass(frozen=True, slots=True)
class Examples:
    """What is shown of one objective."""

    located: list[Located] = field(default_factory=list)
    found: list[Found] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Card:
    """A figure at the top of the page."""

    title: str
    value: float
    low: float
    high: float
    against: float
    against_name: str


def write_report(
    path: Path,
    *,
    title: str,
    step: int,
    config: str,
    metrics: Sequence[Mapping[str, Any]],
    data: Mapping[str, Any],
    evaluation: Mapping[str, Any] | None,
    examples: Mapping[str, Examples],
) -> Path:
    """Write the page.

    Args:
        path: of the page.
        title: name of the run.
        step: of the checkpoint shown.
        config: the run's config as text.
        metrics: lines of metrics.jsonl.
        data: content of data.json: stream -> counts, {} where there is none.
        evaluation: content of evaluation.json, None where there is none.
        examples: objective -> pictures.
    """
    figures = dict((evaluation or {}).get("objectives", {}))
    environment = Environment(
        loader=PackageLoader("mmssl.downstream"),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("report.html.j2").render(
        title=title,
        step=step,
        config=config,
        cards=headline(figures),
        objectives=[_objective(name, values) for name, values in figures.items()],
        examples={name: shown for name, shown in examples.items() if shown.located or shown.found},
        charts=[Markup(chart) for chart in training_charts(metrics)],
        data=data_rows(data),
        speed=speed(metrics),
        versions=versions(),
    )
    write_aside(path, page.encode())
    return path


def headline(figures: Mapping[str, Mapping[str, Any]]) -> list[Card]:
    """The figures to begin with: of each kind the best objective's."""
    found: list[Card] = []
    for key, title in (
        ("accuracy", "Does this sound belong to this picture?"),
        ("synchronisation", "Are picture and sound in time?"),
    ):
        best = _best(figures, lambda values, key=key: values.get(key))
        if best:
            found.append(Card(title, best["value"], best["low"], best["high"], best["chance"], "chance"))
    placed = _best(figures, lambda values: values.get("localization", {}).get("pointing", {}).get("model"), with_figures=True)
    if placed:
        others = {
            name: e["value"] for name, e in placed["figures"]["localization"]["pointing"].items() if name in ("centre", "motion")
        }
        name = max(others, key=lambda other: others[other])
        found.append(
            Card(
                "Does it point at what sounds?",
                placed["value"],
                placed["low"],
                placed["high"],
                others[name],
                f"{NAMES.get(name, name)} alone",
            )
        )
    sought = _best(figures, lambda values: values.get("retrieval", {}).get("video_to_audio", {}).get("R@1"), with_figures=True)
    if sought:
        size = sought["figures"]["retrieval"]["gallery"]
        found.append(
            Card(f"Own sound first among {size}", sought["value"], sought["low"], sought["high"], sought["chance"], "chance")
        )
    for name, values in figures.items():
        judged = values.get("judged", {}).get("accuracy")
        if judged and "chance" in judged:
            found.append(
                Card(f"{name}: right answers", judged["value"], judged["low"], judged["high"], judged["chance"], "chance")
            )
    return found


def training_charts(metrics: Sequence[Mapping[str, Any]]) -> list[str]:
    """Charts over steps: losses and accuracies with chance, embedding spread, learning rate, gradient norm, rate."""
    names = list(
        dict.fromkeys(
            key.split("/")[0] for line in metrics for key in line if key.endswith("/loss") and not key.startswith("eval/")
        )
    )
    charts = [chart for name in names for chart in _objective_charts(name, metrics)]
    charts.append(curves("learning rate", [_line(metrics, "lr", "")]))
    charts.append(curves("gradient norm", [_line(metrics, "grad_norm", "")], log=True))
    charts.append(curves("clips a second", [_line(metrics, "speed/clips_per_second", "")]))
    return [chart for chart in charts if chart]


def data_rows(data: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row for each stream: counts, and for each objective what it left out and why."""
    rows = []
    for stream, counts in data.items():
        rejected = {
            name: ", ".join(f"{reason}: {count}" for reason, count in sorted(reasons.items(), key=lambda item: -item[1]))
            for name, reasons in counts.get("rejected", {}).items()
            if reasons
        }
        unreadable = counts.get("index_rejected", {})
        if unreadable:
            rejected = {"index": ", ".join(f"{reason}: {count}" for reason, count in unreadable.items())} | rejected
        keys = ("sources", "train", "usable", "held_out")
        rows.append({"stream": stream, "rejected": rejected, **{key: counts.get(key, "") for key in keys}})
    return rows


def speed(metrics: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Medians over the run, in words."""
    rows: list[tuple[str, str]] = []
    for key, name, show in (
        ("speed/clips_per_second", "clips a second", lambda v: f"{v:.1f}"),
        ("speed/seconds_per_step", "seconds a step", lambda v: f"{v:.3f}"),
        ("speed/data_wait", "waiting for data", lambda v: f"{v:.1%} of the time"),
        ("speed/memory_gb", "memory", lambda v: f"{v:.2f} GB"),
    ):
        values = [line[key] for line in metrics if isinstance(line.get(key), int | float)]
        if values:
            rows.append((name, show(statistics.median(values))))
    for key, name in (("replaced", "rows replaced (files that broke)"), ("skipped", "steps skipped (not finite)")):
        values = [line[key] for line in metrics if isinstance(line.get(key), int | float)]
        if values:
            rows.append((name, f"{max(values):g}"))
    return rows


def versions() -> list[tuple[str, str]]:
    """Of Python, the machine and the packages that matter."""
    rows = [("Python", platform.python_version()), ("machine", f"{platform.system()} {platform.machine()}")]
    for package in PACKAGES:
        try:
            rows.append((package, version(package)))
        except PackageNotFoundError:
            continue
    return rows


def read_data(run: Path) -> dict[str, Any]:
    """data.json of a run; {} where it is missing or damaged (the page then goes without that table)."""
    try:
        content = json.loads((run / "data.json").read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _objective(name: str, figures: Mapping[str, Any]) -> dict[str, Any]:
    shares: list[tuple[str, dict[str, Any], float | None]] = []
    rows: list[dict[str, str]] = []
    for what, entry, against in figure_rows(figures):
        rank = "rank" in what
        digits = 1 if rank else 3
        text = {key: f"{entry[key]:.{digits}f}" for key in ("value", "low", "high")}
        rows.append({"what": what, "against": against, "n": str(entry["n"]), **text})
        if not rank and entry["low"] >= 0.0 and entry["high"] <= 1.0:  # the chart is for shares
            shares.append((what, dict(entry), _against(figures, what, entry)))
    return {
        "name": name,
        "sources": figures["sources"],
        "cuts": figures["cuts_of_each"],
        "compares": "accuracy_training_threshold" in figures,
        "failed": len(figures["failed"]),
        "rows": rows,
        "chart": Markup(intervals(shares)),
    }


def _against(figures: Mapping[str, Any], what: str, entry: Mapping[str, Any]) -> float | None:
    if "chance" in entry:
        return float(entry["chance"])
    for measure, by_map in figures.get("localization", {}).items():
        if NAMES[measure] == what:
            return max(float(e["value"]) for name, e in by_map.items() if name in ("centre", "motion"))
    return None


def _best(figures: Mapping[str, Mapping[str, Any]], pick: Any, *, with_figures: bool = False) -> dict[str, Any] | None:
    entries = [(pick(values), values) for values in figures.values() if pick(values)]
    if not entries:
        return None
    entry, values = max(entries, key=lambda pair: pair[0]["value"])
    return {**entry, "figures": values} if with_figures else dict(entry)


def _objective_charts(name: str, metrics: Sequence[Mapping[str, Any]]) -> list[str]:
    keys = {key for line in metrics for key in line if key.startswith(f"{name}/")}
    shown = [
        "loss",
        *sorted(key.split("/")[1] for key in keys if key.split("/")[1].startswith("accuracy") and key.count("/") == 1),
    ]
    charts = []
    for measure in shown:
        key = f"{name}/{measure}"
        lines = [
            _line(metrics, key, "training"),
            _line(metrics, f"eval/{key}", "held out", "held"),
            _line(metrics, f"{key}/chance", "chance", "chance"),
        ]
        charts.append(curves(f"{name}: {measure.replace('_', ' ')}", lines))
    spread = [key for key in sorted(keys) if "/spread/" in key]
    kinds = ("train", "second")
    charts.append(
        curves(
            f"{name}: spread of embeddings (0 is collapse)",
            [_line(metrics, key, key.rsplit("/", 1)[1], kinds[i % 2]) for i, key in enumerate(spread)],
        )
    )
    return charts


def _line(metrics: Sequence[Mapping[str, Any]], key: str, label: str, kind: str = "train") -> Line:
    points = [(line["step"], line[key]) for line in metrics if isinstance(line.get(key), int | float)]
    return Line(label, [step for step, _ in points], [value for _, value in points], kind)
