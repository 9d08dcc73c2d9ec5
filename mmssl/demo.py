"""The demo: a toy world made, indexed, learnt from, evaluated, and one held-out clip turned into a heatmap video.

Everything runs through the same functions as the commands; only the config stands here instead of in a YAML file.
"""

from __future__ import annotations

import shlex
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from mmssl.config import RunConfig, load_config, resolve
from mmssl.data.index import index_folder
from mmssl.data.toyworld import make_toyworld
from mmssl.data.toyworld.sheet import draw_contact_sheet
from mmssl.run import CONFIG_FILE, checkpoint_step, corpora_of, load_run, start_run
from mmssl.training.log import METRICS_FILE, read_metrics
from mmssl.types import InputError
from mmssl.usage import evaluate_run, localize_run, report_run

TRAIN_CLIPS, HELD_OUT_CLIPS = 1000, 420  # a quarter is muted, which leaves more than 300 to evaluate on
MIN_MINUTES, MAX_MINUTES = 2.0, 600.0
AFTERWARDS = 35.0  # seconds that evaluation, localization and report take; 22 were measured on two slow cores
PLANNED = (
    0.88  # of the training time: the last tenths are for its evaluations and for a machine that slows down, as shared ones do
)
TRIAL_STEPS = 20  # timed to find out how many steps fit
STEADY = slice(
    10, 16
)  # of them: before, the loader fills its queue; after, it has nothing left to fetch and leaves the cores alone
NEXT = """
The same with your own folder of videos:
  mmssl index clips/
  mmssl train configs/tiny/av_nce.yaml streams.0.data=clips/ --out runs/mine
  mmssl localize runs/mine clips/any.mp4 heat.mp4
  mmssl report runs/mine
Or, with what was just learnt:  mmssl localize {run} any.mp4 heat.mp4"""


@dataclass(frozen=True, slots=True)
class Budget:
    """When the demo began, and when it should end (seconds of `time.monotonic`)."""

    begin: float
    end: float

    @classmethod
    def of(cls, minutes: float) -> Budget:
        """A budget that begins now.

        Raises:
            InputError: too short to learn anything, or absurdly long.
        """
        if not MIN_MINUTES <= minutes <= MAX_MINUTES:
            raise InputError(
                f"--minutes {minutes:g} is out of range; give {MIN_MINUTES:g} to {MAX_MINUTES:g} (8 shows what there is to see)"
            )
        now = time.monotonic()
        return cls(now, now + 60 * minutes)

    @property
    def for_training(self) -> float:
        """Seconds left for training."""
        return self.end - time.monotonic() - AFTERWARDS


def demo_config(world: Path, *, steps: int, seed: int = 0) -> RunConfig:
    """avenet (in its localization form) and av_nce on shared tiny encoders: equal views, so one decode and one encoder pass serve both."""
    shared: dict[str, Any] = {
        "views": {"frames": 2, "seconds": 1.0, "loud": 1.0, "crop": [0.88, 1.0]},
        "frame_augment": {"brightness": 0.3, "contrast": 0.3, "saturation": 0.3, "hue": 0.03, "grey": 0.3},
        "wave_augment": {"noise": 0.5, "low_pass": 0.3, "high_pass": 0.3},
    }
    return resolve(
        {
            "seed": seed,
            "encoders": {
                "video": {"name": "frame_resnet", "size": "tiny", "norm": "batch"},
                "audio": {"name": "audio_cnn", "size": "tiny", "norm": "batch", "pool": "mean", "band_offset": True},
            },
            "streams": [
                {
                    "data": str(world),
                    "batch": 64,
                    "holdout": HELD_OUT_CLIPS,
                    "objectives": [
                        {"name": "av_nce", "weight": 1.0, "pooling": "max", "sharpness": 20.0, "temperature": 0.05, **shared},
                        {"name": "avenet", "weight": 1.0, "form": "avol", "sharpness": 20.0, **shared},
                    ],
                }
            ],
            "train": {
                "steps": steps,
                "optimizer": "muon",
                "lr": 4e-3,
                "warmup": min(50, steps // 10),
                "weight_decay": 0.02,
                "save_every": max(100, steps // 4),
                "eval_every": max(50, steps // 5),
                "eval_rows": 192,
            },
        },
        "the demo's config",
    )


def run_demo(out: Path, *, minutes: float = 8.0, seed: int = 0) -> dict[str, Any]:
    """The whole way: world, index, training, evaluation, heatmap video, report. Returns the evaluation.

    Raises:
        InputError: `minutes` out of range, or `out` holds something else.
    """
    budget = Budget.of(minutes)
    console = Console(stderr=True)
    world, run = out / "world", out / "run"
    console.rule("1  a world of short videos: things that ring when they are struck, things that do not")
    make_toyworld(world, clips=TRAIN_CLIPS + HELD_OUT_CLIPS, seed=seed)
    console.print(f"Look at it: {draw_contact_sheet(world)}", soft_wrap=True)
    console.rule("2  index")
    index_folder(world)
    console.rule("3  training: which sound belongs to which picture?")
    _train(world, run, budget, seed, console)
    console.rule("4  what it has learnt, on clips that it has never seen")
    found = evaluate_run(run)
    console.rule("5  a heatmap video and a report")
    clip = _held_out_clip(run)
    heat = localize_run(run, clip, out / "heat.mp4")
    report = report_run(run)
    shown = Console()
    shown.print(summary(found["objectives"]["av_nce"]))
    shown.print(
        f"{heat.film}  where {clip.name}'s sound comes from, drawn into the video: {heat.sentence()}",
        highlight=False,
        soft_wrap=True,
    )
    shown.print(f"{report}  curves, examples, data and speed on one page", highlight=False, soft_wrap=True)
    shown.print(NEXT.format(run=shlex.quote(str(run))), highlight=False, soft_wrap=True)
    return found


def summary(figures: Mapping[str, Any]) -> Table:
    """What was learnt, beside what chance or a deaf guess would reach."""
    table = Table(title="What was learnt from videos alone", title_justify="left")
    for column in ("question", "reached", "95 % interval", "without having learnt"):
        table.add_column(column)
    retrieval, pointing = figures["retrieval"], figures["localization"]["pointing"]
    deaf = max(pointing[name]["value"] for name in ("centre", "motion"))
    rows = [
        ("Does this sound belong to this picture?", figures["accuracy"], f"{figures['accuracy']['chance']:.2f} (chance)"),
        (
            f"Which of {retrieval['gallery']} sounds belongs to this picture?",
            retrieval["video_to_audio"]["R@1"],
            f"{retrieval['video_to_audio']['R@1']['chance']:.2f} (chance)",
        ),
        ("Which thing in the picture makes the sound?", pointing["model"], f"{deaf:.2f} (best of centre and whatever moves)"),
    ]
    for question, entry, without in rows:
        table.add_row(question, f"{entry['value']:.2f}", f"{entry['low']:.2f} to {entry['high']:.2f}", without)
    return table


def _train(world: Path, run: Path, budget: Budget, seed: int, console: Console) -> None:
    if (run / CONFIG_FILE).is_file():
        config = load_config(run / CONFIG_FILE)
        if checkpoint_step(run) == config.train.steps:
            console.print(f"{run} is trained already; remove it to train again", soft_wrap=True)
            return
        start_run(config, run, resume=True)
        return
    steps = steps_that_fit(world, budget, seed)
    console.print(f"{steps} steps fit into the {budget.for_training / 60:.1f} minutes that are left for training")
    start_run(demo_config(world, steps=steps, seed=seed), run)


def _held_out_clip(run: Path) -> Path:
    """The first held-out clip that has something to hear and to see."""
    loaded = load_run(run)
    held = corpora_of(loaded)[0].held_out
    views = loaded.objectives["av_nce"].views
    for source in held or ():
        if views.reject(source) is None:
            return source.path
    raise InputError(f"none of the clips that {run} held out can be heard; remove the folder and run the demo again")


def steps_that_fit(world: Path, budget: Budget, seed: int) -> int:
    """Train a few steps into a folder that is thrown away, and see how many fit into the time that is left."""
    trial = demo_config(world, steps=TRIAL_STEPS, seed=seed).resolved
    trial["train"] |= {"eval_every": 0, "eval_rows": 0, "save_every": TRIAL_STEPS, "log_every": 1}
    with tempfile.TemporaryDirectory(prefix="mmssl-trial-") as folder:
        start_run(resolve(trial), Path(folder) / "run", display=False)
        lines = read_metrics(Path(folder) / "run" / METRICS_FILE)
    seconds = sorted([line["speed/seconds_per_step"] for line in lines if "lr" in line][STEADY])
    typical = seconds[len(seconds) // 2]
    return max(30, int(PLANNED * budget.for_training / typical))
