"""The demo: a toy world made, indexed, learnt from, evaluated, and one held-out clip turned into a heatmap video.

Everything runs through the same functions as the commands; only the config stands here instead of in a YAML file.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmssl.config import RunConfig, resolve
from mmssl.run import start_run
from mmssl.training.log import METRICS_FILE, read_metrics
from mmssl.types import InputError

TRAIN_CLIPS, HELD_OUT_CLIPS = 1000, 320
MIN_MINUTES, MAX_MINUTES = 2.0, 600.0
AFTERWARDS = 75.0  # seconds that evaluation, localization and report take on two cores
TRIAL_STEPS = 12  # timed to find out how many steps fit


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
            raise InputError(f"--minutes {minutes:g} is out of range; give {MIN_MINUTES:g} to {MAX_MINUTES:g} (8 shows what there is to see)")
        now = time.monotonic()
        return cls(now, now + 60 * minutes)

    @property
    def for_training(self) -> float:
        """Seconds left for training."""
        return self.end - time.monotonic() - AFTERWARDS


def demo_config(world: Path, *, steps: int, seed: int = 0) -> RunConfig:
    """avenet (in its localization form) and av_nce on shared tiny encoders: equal views, so one decode and one encoder pass serve both."""
    shared: dict[str, Any] = {
        "views": {"frames": 2, "seconds": 1.0, "loud": 1.0, "crop": [0.75, 1.0]},
        "frame_augment": {"brightness": 0.3, "contrast": 0.3, "saturation": 0.3, "hue": 0.03},
        "wave_augment": {},
    }
    return resolve(
        {
            "seed": seed,
            "encoders": {
                "video": {"name": "frame_resnet", "size": "tiny"},
                "audio": {"name": "audio_cnn", "size": "tiny"},
            },
            "streams": [
                {
                    "data": str(world),
                    "batch": 64,
                    "holdout": HELD_OUT_CLIPS,
                    "objectives": [
                        {"name": "av_nce", "weight": 1.0, "pooling": "max", "temperature": 0.07, **shared},
                        {"name": "avenet", "weight": 0.5, "form": "avol", **shared},
                    ],
                }
            ],
            "train": {
                "steps": steps,
                "lr": 1e-3,
                "warmup": min(50, steps // 10),
                "weight_decay": 0.02,
                "save_every": max(100, steps // 4),
                "eval_every": max(50, steps // 5),
                "eval_rows": 192,
            },
        },
        "the demo's config",
    )


def steps_that_fit(world: Path, budget: Budget, seed: int) -> int:
    """Train a few steps into a folder that is thrown away, and see how many fit into the time that is left."""
    trial = demo_config(world, steps=TRIAL_STEPS, seed=seed).resolved
    trial["train"] |= {"eval_every": 0, "eval_rows": 0, "save_every": TRIAL_STEPS, "log_every": 1}
    with tempfile.TemporaryDirectory(prefix="mmssl-trial-") as folder:
        start_run(resolve(trial), Path(folder) / "run", display=False)
        lines = read_metrics(Path(folder) / "run" / METRICS_FILE)
    seconds = sorted(line["speed/seconds_per_step"] for line in lines[TRIAL_STEPS // 3 :] if "lr" in line)
    typical = seconds[len(seconds) // 2]
    return max(30, int(budget.for_training / typical))
