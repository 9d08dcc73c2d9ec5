"""The demo's whole way, with few clips and two steps: it must end by saying what was learnt and what to do next."""

import shutil
import time

import pytest

import mmssl.demo as demo
from mmssl.config import resolve
from mmssl.run import start_run
from mmssl.types import InputError
from mmssl.usage import evaluate_run


def test_the_whole_way_and_again_in_the_same_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(demo, "TRAIN_CLIPS", 16)
    monkeypatch.setattr(demo, "HELD_OUT_CLIPS", 12)
    monkeypatch.setattr(demo, "steps_that_fit", lambda world, budget, seed: 2)
    out = tmp_path / "a folder whose name fills a line of the terminal, where a path was broken in two" / "demo"
    found = demo.run_demo(out, minutes=2)
    said = capsys.readouterr().out
    for words in ("What was learnt from videos alone", "(chance)", "mmssl train configs/"):
        assert words in said
    for made in (
        "heat.mp4",
        "heat.npz",
        "run/report.html",
        "run/evaluation.json",
        "world/contact_sheet.png",
        "run/encoders/video/config.json",
    ):
        assert (out / made).stat().st_size > 0
    assert set(found["objectives"]) == {"av_nce", "avenet"}
    before = sorted(path.name for path in (out / "run" / "ckpt").iterdir())
    demo.run_demo(out, minutes=2)
    assert f"{out / 'run'} is trained already" in capsys.readouterr().err
    assert sorted(path.name for path in (out / "run" / "ckpt").iterdir()) == before


def test_a_corpus_that_changed_after_training_is_not_evaluated_as_held_out(toy, tmp_path):
    """A grown corpus is parted anew, so clips that were trained on would count as held out."""
    folder = tmp_path / "clips"
    shutil.copytree(toy, folder)
    small = demo.demo_config(folder, steps=1).resolved
    small["streams"][0] |= {"batch": 4, "holdout": 6}
    small["train"] |= {"workers": 0, "eval_rows": 0}
    start_run(resolve(small), tmp_path / "run", display=False)
    shutil.copy(folder / "clip_000001.mp4", folder / "more.mp4")
    with pytest.raises(InputError, match="has changed since"):
        evaluate_run(tmp_path / "run", progress=False)


@pytest.mark.parametrize("minutes", [0.1, 1e6])
def test_a_budget_out_of_range_is_refused(tmp_path, minutes):
    with pytest.raises(InputError, match="out of range"):
        demo.run_demo(tmp_path, minutes=minutes)


def test_a_machine_that_slows_down_by_a_tenth_still_ends_in_time(tmp_path, monkeypatch):
    """Steps were planned to fill all that was left: on a shared machine that slowed down, 8 minutes became 8 and a half."""
    pace, seconds = 0.5, 300.0
    monkeypatch.setattr(demo, "start_run", lambda *_, **__: None)
    monkeypatch.setattr(demo, "read_metrics", lambda _: [{"lr": 0.1, "speed/seconds_per_step": pace}] * demo.TRIAL_STEPS)
    now = time.monotonic()
    steps = demo.steps_that_fit(tmp_path, demo.Budget(now, now + seconds + demo.AFTERWARDS), seed=0)
    assert 0.8 * seconds < steps * pace * 1.1 < seconds
