"""What training together does to each task: a mix of objectives on shared encoders, beside each objective alone for the same steps.

Alone, an objective has the mix's own entry: the same views, rows a step, encoders, optimizer and number of steps. The mix is trained with
loss weights as they stand in the config ("fixed") and with weights by uncertainty; how the objectives' gradients agree on each encoder is
read from the fixed run. Resumable. On two cores plan an hour, and run nothing beside it.

Example: python tools/measure_joint.py work/ --page docs/results/joint.md
"""

from __future__ import annotations

import copy
import json
import statistics
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from pages import arguments, figure, head
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from mmssl.config import resolve
from mmssl.data.texts import corpus_texts
from mmssl.data.tokens import train_tokenizer
from mmssl.data.toyworld import make_toyworld
from mmssl.files import write_aside
from mmssl.objectives.base import objective_class
from mmssl.run import CONFIG_FILE, checkpoint_step, start_run
from mmssl.training.log import METRICS_FILE, read_metrics
from mmssl.usage import evaluate_run

CONFIG = Path(__file__).parents[1] / "configs" / "tiny" / "joint.yaml"
CLIPS, WORDS = 1420, 300
TOGETHER = {"together, fixed weights": "fixed", "together, by uncertainty": "uncertainty"}
# What tells how well an objective does, the first of these that its evaluation has.
FIGURES = (
    "retrieval.video_to_audio.R@1",
    "retrieval.text_to_video.R@1",
    "retrieval.video_to_flow.R@1",
    "accuracy",
    "judged.accuracy",
)


class Part(NamedTuple):
    """One training: the whole mix, or one objective of it alone."""

    label: str
    values: dict[str, Any]  # of the config


def parts(mix: Mapping[str, Any]) -> Iterator[Part]:
    """The trainings of a mix: together with each kind of weights, then each objective alone."""
    for label, weighting in TOGETHER.items():
        values = copy.deepcopy(dict(mix))
        values["train"]["weighting"] = weighting
        yield Part(label, values)
    for number, stream in enumerate(mix["streams"]):
        for item in stream["objectives"]:
            values = copy.deepcopy(dict(mix))
            values["streams"] = [copy.deepcopy(mix["streams"][number]) | {"objectives": [copy.deepcopy(item)]}]
            roles = objective_class(item["name"]).roles
            values["encoders"] = {role: encoder for role, encoder in values["encoders"].items() if role in roles}
            values["train"] |= {"weighting": "fixed", "gradients_every": 0}
            yield Part(item["name"], values)


def trained(part: Part, root: Path, seed: int) -> dict[str, Any]:
    """Train and evaluate one part, or find it done -> the objectives' figures, and what its log says."""
    run = root / f"joint-{seed}-{part.label.replace(', ', '-').replace(' ', '-')}"
    config = resolve(part.values, str(CONFIG))
    if checkpoint_step(run) != config.train.steps:
        start_run(config, run, resume=(run / CONFIG_FILE).is_file())
    if not (run / "evaluation.json").is_file():
        evaluate_run(run)
    metrics = read_metrics(run / METRICS_FILE)
    keys = {key for row in metrics for key in row if "gradient" in key or key.endswith("/weight")}
    return {
        "objectives": json.loads((run / "evaluation.json").read_text())["objectives"],
        "seconds_per_step": statistics.median(
            row["speed/seconds_per_step"] for row in metrics if "speed/seconds_per_step" in row
        ),
        "log": {key: statistics.mean([row[key] for row in metrics if key in row]) for key in sorted(keys)},
    }


def told(figures: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """(name, entry) of the figure that an objective is told by."""
    for path in FIGURES:
        entry: Any = figures
        for key in path.split("."):
            entry = entry.get(key, {})
        if entry:
            return path.replace("judged.", "").replace("retrieval.", "").replace("_", " ").replace(".", ", "), entry
    raise SystemExit(f"none of {', '.join(FIGURES)} is in the evaluation, which has {', '.join(figures)}")


def kind_of(key: str) -> int:
    """Where a figure of the log stands: norms of gradients, then cosines between them, then weights."""
    return 0 if "/gradient/" in key else 1 if key.startswith("gradient_cosine/") else 2


def page(found: Mapping[str, dict[str, Any]], names: list[str], steps: int, command: str) -> str:
    """The figures as Markdown."""
    lines = [
        *head("Trained together", command),
        f"`configs/tiny/joint.yaml`: {len(names)} objectives on shared encoders, {steps} steps on the default toy world ({CLIPS} clips, 420 held out), beside each objective alone for the same steps",
        "with the same rows a step. Figures are on held-out clips with their 95 % intervals over clips. Together, each step costs what its objectives cost, so the mix takes longer a step: the last row.",
        "",
        "| objective | figure | chance | alone | " + " | ".join(TOGETHER) + " |",
        "|" + "---|" * (4 + len(TOGETHER)),
    ]
    for name in names:
        cells = [found[label]["objectives"].get(name) if label in found else None for label in (name, *TOGETHER)]
        what, entry = next((told(cell) for cell in cells if cell), ("", {}))
        chance = f"{entry['chance']:.3f}" if "chance" in entry else ""
        lines.append(
            f"| {name} | {what} | {chance} | " + " | ".join(figure(told(cell)[1]) if cell else "" for cell in cells) + " |"
        )
    speeds = [f"{found[label]['seconds_per_step']:.2f}" if label in found else "" for label in TOGETHER]
    alone = [found[name]["seconds_per_step"] for name in names if name in found]
    lines.append(f"| seconds a step | | | {sum(alone):.2f} (all, one after the other) | " + " | ".join(speeds) + " |")
    logs = [found[label]["log"] if label in found else {} for label in TOGETHER]
    keys = sorted({key for log in logs for key in log if not key.startswith("eval/")}, key=lambda key: (kind_of(key), key))
    if keys:
        lines += [
            "",
            "From the logs, means over the run: norms of each objective's gradient on each encoder, cosines between two objectives' gradients",
            "on an encoder that they share, and weights.",
            "",
            "| figure | " + " | ".join(TOGETHER) + " |",
            "|" + "---|" * (1 + len(TOGETHER)),
        ]
        lines += [f"| `{key}` | " + " | ".join(f"{log[key]:.3g}" if key in log else "" for log in logs) + " |" for key in keys]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Command line."""
    parser = arguments(__doc__ or "", "for the world and the runs")
    parser.add_argument("--steps", type=int, help="of each training; default: those of the config")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    world = given.folder / f"world-{given.seed}-default"
    make_toyworld(world, clips=CLIPS, seed=given.seed)
    words = given.folder / f"words-{world.name}.json"
    if not words.is_file():
        train_tokenizer(corpus_texts([world]), words, size=WORDS)
    mix = yaml.safe_load(CONFIG.read_text())
    mix["seed"], mix["encoders"]["text"]["tokenizer"] = given.seed, str(words)
    mix["streams"] = [stream | {"data": str(world)} for stream in mix["streams"]]
    mix["train"]["steps"] = given.steps or mix["train"]["steps"]
    todo = list(parts(mix))
    names = [part.label for part in todo if part.label not in TOGETHER]
    steps = f" --steps {given.steps}" if given.steps else ""
    command = f"python tools/measure_joint.py work/{steps} --seed {given.seed}"
    out = given.page or given.folder / "joint.md"
    found: dict[str, dict[str, Any]] = {}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        running = bar.add_task("runs", total=len(todo))
        for part in todo:
            bar.update(running, description=part.label)
            found[part.label] = trained(part, given.folder, given.seed)
            bar.advance(running)
            write_aside(out, page(found, names, mix["train"]["steps"], command).encode())
    print(out.read_text())


if __name__ == "__main__":
    main()
