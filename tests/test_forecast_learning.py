"""The objectives that look ahead, from files: what moves is foretold, and coded clips that stand still give no moment away."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from mmssl.config import load_config
from mmssl.data.toyworld import PRESETS, make_toyworld
from mmssl.run import start_run
from mmssl.training.log import read_metrics
from tests.conftest import ROOT

SMALL = ["streams.0.holdout=12", "streams.0.batch=12", "train.steps=80", "train.eval_every=0", "train.eval_rows=96"]


def learn(name: str, cut: str | None, folder: Path) -> dict[str, float]:
    """Held-out metrics after a short training on a small toy world with the link as it is, or cut."""
    still = dataclasses.replace(PRESETS["easy"], size=64, seconds=2.0, muted=0.125)
    world = make_toyworld(folder / "toy", clips=48, seed=5, difficulty=still, cut=cut, workers=1, progress=False)
    overrides = [f"streams.0.data={world}", *SMALL, "train.workers=0"]
    start_run(load_config(ROOT / "configs/tiny" / f"{name}.yaml", overrides), folder / "run", display=False)
    last = read_metrics(folder / "run/metrics.jsonl")[-1]
    return {key.removeprefix(f"eval/{name}/"): value for key, value in last.items()}


@pytest.mark.slow
def test_frozen_clips_give_no_moment_away(tmp_path: Path) -> None:
    """Pictures of different kinds in a codec's group differ, though what they show does not."""
    metrics = learn("dense_predictive_coding", "frozen", tmp_path)
    assert metrics["accuracy"] > 10 * metrics["accuracy/chance"]  # it did learn what can be learnt
    assert metrics["accuracy_temporal"] == pytest.approx(0.5, abs=0.03)


@pytest.mark.slow
@pytest.mark.parametrize("cut", [None, "frozen"])
def test_moving_clips_are_predicted_better_than_by_copying_and_frozen_ones_are_not(tmp_path: Path, cut: str | None) -> None:
    metrics = learn("video_prediction", cut, tmp_path)
    if cut is None:
        assert metrics["error_ratio"] < 0.9 and metrics["psnr"] > metrics["psnr/copy"] + 1.0
    else:
        assert metrics["error_ratio"] > 0.95
