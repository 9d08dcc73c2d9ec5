"""Every objective: what it learns of the toy world, the same with the link cut, and what it learns of real clips; as one table.

An objective trains by configs/tiny/NAME.yaml. Resumable: a run that is complete is not trained again, and the page is written anew after
each. Plan fifteen minutes an objective on two cores, and run nothing beside it.

Example: python tools/run_tasks.py work/ --only l3 arrow_of_time --media ../shared/media --page docs/results/tasks.md
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pages import arguments, figure, head
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from tasks import TASKS, Task

from mmssl.config import load_config
from mmssl.data.index import open_corpus
from mmssl.data.texts import corpus_texts
from mmssl.data.tokens import train_tokenizer
from mmssl.data.toyworld import make_toyworld
from mmssl.files import write_aside
from mmssl.rng import Purpose, rng_for
from mmssl.run import CONFIG_FILE, checkpoint_step, start_run
from mmssl.training.log import METRICS_FILE, read_metrics
from mmssl.usage import evaluate_run

CONFIGS = Path(__file__).parents[1] / "configs"
CLIPS = 1420
REAL_WORDS = 4000  # tokens of a vocabulary of real texts
NEAR, PART = (
    0.05,
    0.25,
)  # how far from chance the figure may lie where the link is cut: so much, and so large a part of the way to the level


ENDS = ".!?\u2026"  # of sentences
CONDITIONS = ("whole", "cut", "real")


class Job(NamedTuple):
    """One training: an objective under one condition."""

    name: str
    condition: str  # one of CONDITIONS
    seed: int

    @property
    def task(self) -> Task:
        """How the objective is proven."""
        return TASKS[self.name]

    @property
    def config(self) -> Path:
        """What it trains by."""
        if self.condition == "real" and self.task.real_config:
            return CONFIGS / "real" / f"{self.task.real_config}.yaml"
        return CONFIGS / "tiny" / f"{self.task.config or self.name}.yaml"

    @property
    def overrides(self) -> tuple[str, ...]:
        """What the condition changes in the config, besides the data."""
        if self.condition == "cut":
            return self.task.cut_overrides
        return self.task.real_overrides if self.condition == "real" else ()


def jobs(names: list[str], conditions: list[str], seed: int, media: Path | None) -> Iterator[Job]:
    """All trainings that the table needs, in order."""
    for name in names:
        possible = {"whole": True, "cut": bool(TASKS[name].how), "real": media is not None and bool(TASKS[name].real)}
        yield from (Job(name, condition, seed) for condition, given in possible.items() if given and condition in conditions)


def done(job: Job, root: Path) -> Path:
    """Where the figures of a job are kept; the file is there when it is complete."""
    return root / f"tiny-{job.seed}-{job.name}-{job.condition}" / "task.json"


def do(job: Job, root: Path, media: Path | None) -> dict[str, Any]:
    """Train and evaluate one job (or find it done) -> its figures."""
    saved = done(job, root)
    run = saved.parent
    if saved.is_file():
        return json.loads(saved.read_text())
    data = _data(job, root, media)
    texts = [f"streams.0.data={data}", f"seed={job.seed}", *job.overrides]
    if job.task.words:
        texts.append(f"encoders.text.tokenizer={_words(job, root, data)}")
    config = load_config(job.config, texts)
    if checkpoint_step(run) != config.train.steps:
        start_run(config, run, resume=(run / CONFIG_FILE).is_file())
    if not (run / "evaluation.json").is_file():
        evaluate_run(run)
    judged = (
        config.streams[0].objectives[0]["name"].rpartition(".")[2]
    )  # the first: others only help it (masked_lm beside next_sentence)
    figures = json.loads((run / "evaluation.json").read_text())["objectives"][judged]
    metrics = read_metrics(run / METRICS_FILE)
    speeds = {
        key: [row[f"speed/{key}"] for row in metrics if f"speed/{key}" in row] for key in ("seconds_per_step", "clips_per_second")
    }
    found = {
        "entry": _at(figures, job.task.figure),
        "steps": config.train.steps,
        "sources": figures["sources"],
        **{key: statistics.median(values) if values else None for key, values in speeds.items()},
    }
    write_aside(saved, json.dumps(found, indent=2).encode())
    return found


def _data(job: Job, root: Path, media: Path | None) -> Path:
    if job.condition == "real":
        assert media is not None
        folder = root / f"real-{'-'.join(name.replace('/', '_') for name in job.task.real)}"
        folder.mkdir(parents=True, exist_ok=True)
        for name in job.task.real:  # links: one corpus of several folders
            link = folder / name.replace("/", "_")
            if not link.exists():
                link.symlink_to((media / name).resolve(), target_is_directory=True)
        return folder
    if job.task.documents:
        return _documents(root, job.seed, permuted=job.condition == "cut" and job.task.permuted)
    return _world(root, job.seed, job.task.cut if job.condition == "cut" else None, job.task.difficulty)


def _world(root: Path, seed: int, cut: str | None, difficulty: str | None) -> Path:
    # The demo's measurement has the same worlds, and may have made them already.
    label = {"sound_from_other_clip": "cut-link", None: difficulty or "default"}.get(cut, cut)
    if cut and difficulty:
        label = f"{difficulty}-{cut}"
    world = root / f"world-{seed}-{label}"
    make_toyworld(world, clips=CLIPS, seed=seed, cut=cut, difficulty=difficulty or "default")
    return world


def _documents(root: Path, seed: int, *, permuted: bool) -> Path:
    """The toy world's captions as text files, a line each.

    `permuted`: every word, and the length of every line, is that of a place drawn over the whole corpus, and what a sentence ends with is
    drawn too. (With a full stop at the end of each line, masked_lm filled 0.32 of the gaps, chance 0.16.)
    """
    folder = root / f"captions-{seed}{'-permuted-all' if permuted else ''}"
    done = folder / ".complete"  # hidden: no document
    if done.is_file():
        return folder
    sources = [source for source in open_corpus(_world(root, seed, None, None)) if source.cues]
    words = [word for source in sources for cue in source.cues for word in cue.text.split()]
    order = rng_for(seed, Purpose.WORLD, "permuted words").permutation(len(words)) if permuted else range(len(words))
    drawn = (words[place] for place in order)
    lengths = [len(cue.text.split()) for source in sources for cue in source.cues]
    if permuted:
        lengths = [lengths[place] for place in rng_for(seed, Purpose.WORLD, "permuted lengths").permutation(len(lengths))]
    length, draw = iter(lengths), rng_for(seed, Purpose.WORLD, "ends")
    for source in sources:
        lines = [
            " ".join(next(drawn) for _ in range(next(length))).capitalize() for _ in source.cues
        ]  # sentences begin so, and end:
        lines = [line + (ENDS[draw.integers(len(ENDS))] if permuted else ".") for line in lines]
        write_aside(folder / f"{source.id}.txt", "\n".join(lines).encode())
    write_aside(done, b"")
    return folder


def _words(job: Job, root: Path, data: Path) -> Path:
    out = root / f"words-{data.name}.json"
    if not out.is_file():
        size = job.task.words if job.condition != "real" else REAL_WORDS
        train_tokenizer(corpus_texts([data]), out, size=size)
    return out


def _at(figures: dict[str, Any], path: str) -> dict[str, Any]:
    for key in path.split("."):
        if key not in figures:
            raise SystemExit(f"the evaluation has no {path}; it has {', '.join(figures)}")
        figures = figures[key]
    return figures


def page(found: dict[str, dict[str, dict[str, Any]]], command: str) -> str:
    """The figures as Markdown."""
    lines = [
        *head("Every objective, its control and real clips", command),
        f"Each objective by its config in `configs/tiny/` on the default toy world ({CLIPS} clips, 420 held out; another preset where its name stands beside the objective's), the same with the link cut, and on real clips (folders of the development media, a fifth held out by file). Every figure is on held-out files, with its",
        f"95 % interval over files. It has to reach the level on the whole world (set before it was measured), and to lie within {NEAR} of chance, and within a quarter of the way from chance to the level, where the link is cut (where chance is what copying scores, it may be worse). What was tried before stands in [tasks-trials.md](tasks-trials.md). Step time and samples a second are medians of the whole world's run on this machine and hold for it alone.",
        "",
        "| objective | figure | chance | level | toy world | link cut | how it is cut | holds | real clips | which | step, s | samples/s | steps |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [_row(name, conditions) for name, conditions in found.items() if "whole" in conditions]
    return "\n".join(lines) + "\n"


def _row(name: str, conditions: dict[str, dict[str, Any]]) -> str:
    task, whole, cut, real = TASKS[name], conditions["whole"], conditions.get("cut"), conditions.get("real")
    chance = whole["entry"].get("chance")
    holds = ""
    if cut is not None:
        at_chance = cut["entry"].get("chance", chance)
        off = math.inf if at_chance is None else cut["entry"]["value"] - at_chance
        most = 0.0 if at_chance is None else min(NEAR, PART * (task.level - at_chance))
        near = off <= most if task.may_fall_below else abs(off) <= most
        holds = "yes" if whole["entry"]["value"] >= task.level and near else "**no**"
    cells = [
        f"{name} ({task.difficulty} world)" if task.difficulty else name,
        task.figure.rpartition(".")[2].replace("_", " "),
        "" if chance is None else f"{chance:.3f}",
        f"{task.level:.2f}",
        figure(whole["entry"]),
        "" if cut is None else figure(cut["entry"]),
        task.how,
        holds,
        "" if real is None else figure(real["entry"]),
        "" if real is None else f"{', '.join(task.real)}; {real['sources']} held out, {real['steps']} steps",
        *("" if whole[key] is None else f"{whole[key]:.3g}" for key in ("seconds_per_step", "clips_per_second")),
        str(whole["steps"]),
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Command line."""
    parser = arguments(__doc__ or "", "for worlds and runs")
    parser.add_argument("--only", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--conditions", nargs="+", choices=CONDITIONS, default=list(CONDITIONS))
    parser.add_argument("--finished", action="store_true", help="train nothing: the page of what is complete")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--media", type=Path, help="folder of real clips; without it there are no real figures")
    given = parser.parse_args()
    only = "" if given.only == list(TASKS) else f" --only {' '.join(given.only)}"
    if given.conditions != list(CONDITIONS):
        only += f" --conditions {' '.join(given.conditions)}"
    media = f" --media {given.media}" if given.media else ""
    command = f"python tools/run_tasks.py work/{only} --seed {given.seed}{media}"
    out = given.page or given.folder / "tasks.md"
    found: dict[str, dict[str, Any]] = {}
    todo = list(jobs(given.only, given.conditions, given.seed, given.media))
    if given.finished:
        todo = [job for job in todo if done(job, given.folder).is_file()]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        running = bar.add_task("runs", total=len(todo))
        for job in todo:
            bar.update(running, description=f"{job.name}, {job.condition}")
            found.setdefault(job.name, {})[job.condition] = do(job, given.folder, given.media)
            bar.advance(running)
            write_aside(out, page(found, command).encode())
    print(out.read_text())


if __name__ == "__main__":
    main()
