"""Warnings: given where a run learns nothing, once, and not where it learns."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from mmssl.training.display import Display, line
from mmssl.training.health import Health
from mmssl.training.log import RunLog, drop_lines_after, read_metrics
from mmssl.types import InputError
from tests.fakes import FakeLoader, fake_trainer


def watch(values: dict[str, float], *, steps: int = 1000, every: int = 10, rows: int = 32) -> dict[int, list[str]]:
    health = Health(steps=steps, rows=rows)
    found = {step: health.observe(step, values) for step in range(every, steps + 1, every)}
    return {step: texts for step, texts in found.items() if texts}


def test_an_accuracy_at_chance_is_reported_once_after_patience() -> None:
    found = watch({"l3/accuracy": 0.503, "l3/accuracy/chance": 0.5})
    assert list(found) == [200] and len(found[200]) == 1
    assert "l3/accuracy is still at chance after 200 steps (0.503, chance 0.500)" in found[200][0]


@pytest.mark.parametrize(("accuracy", "chance"), [(0.6, 0.5), (0.06, 1 / 64), (1.0, 0.5)])
def test_an_accuracy_above_chance_is_not(accuracy: float, chance: float) -> None:
    assert not watch({"l3/accuracy": accuracy, "l3/accuracy/chance": chance})


def test_few_rows_do_not_make_noise_a_success() -> None:
    # 100 steps of one row: an accuracy of 0.58 is within three standard errors (0.15) of chance.
    assert watch({"l3/accuracy": 0.58, "l3/accuracy/chance": 0.5}, rows=1, steps=500)


def test_a_collapse_is_reported_after_three_lines_and_one_low_line_is_not() -> None:
    found = watch({"nce/spread/video": 0.02})
    assert list(found) == [30] and "collapsed" in found[30][0]
    health = Health(steps=1000, rows=8)
    for step, spread in enumerate((0.02, 0.02, 0.9, 0.02, 0.02, 0.9), start=1):
        assert not health.observe(10 * step, {"nce/spread/video": spread})


def test_equal_cosines_are_reported() -> None:
    found = watch({"nce/cosine/positive": 0.95, "nce/cosine/negative": 0.945})
    assert list(found) == [200] and "do not tell them apart" in found[200][0]
    assert not watch({"nce/cosine/positive": 0.5, "nce/cosine/negative": 0.1})


def test_a_run_that_cannot_learn_says_so(tmp_path: Path) -> None:
    text = io.StringIO()
    trainer = fake_trainer(tmp_path, steps=110, lr=0.0, log_every=10, save_every=1000, loader=FakeLoader(linked=False))
    trainer._display = Display(110, Console(file=text, width=200))
    trainer.fit()
    assert text.getvalue().count("nce/accuracy is still at chance after 100 steps") == 1


def test_lines_after_a_checkpoint_are_dropped_also_half_ones(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "a": 0.1}\n{"step": 2}\n{"step": 3}\n{"step": 4, "a"')
    assert [found["step"] for found in read_metrics(path)] == [1, 2, 3]
    drop_lines_after(path, 2)
    assert path.read_text() == '{"step": 1, "a": 0.1}\n{"step": 2}\n'


def test_metrics_are_valid_json_whatever_the_values(tmp_path: Path) -> None:
    log = RunLog(tmp_path, step=0)
    log.write(1, {"a": float("nan"), "b": float("inf"), "c": 0.1})
    log.close()
    assert json.loads((tmp_path / "metrics.jsonl").read_text(), parse_constant=pytest.fail) == {
        "step": 1,
        "a": None,
        "b": None,
        "c": 0.1,
    }
    assert list((tmp_path / "tb").iterdir())


def test_wandb_is_asked_for_only_where_it_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "wandb", None)
    with pytest.raises(InputError, match=r"wandb is not installed; install mmssl\[wandb\]"):
        RunLog(tmp_path, step=0, wandb="project")


VALUES = {
    "loss": 0.5,
    "l3/accuracy": 0.8,
    "l3/accuracy/chance": 0.5,
    "skipped": 2.0,
    "speed/clips_per_second": 12.3,
    "speed/data_wait": 0.25,
    "speed/memory_gb": 1.5,
    "speed/seconds_per_step": 2.0,
}


def test_a_line_tells_the_accuracy_beside_its_chance() -> None:
    text = line(20, 80, VALUES)
    assert (
        text
        == "step 20/80  loss 0.5000  l3/accuracy 0.800 (chance 0.500)  12.3 clips/s, 25% waiting for data, 1.50 GB, 2 min 00 s left"
    )


def test_a_terminal_shows_the_table_and_other_output_gets_a_line_now_and_then() -> None:
    text = io.StringIO()
    with Display(80, Console(file=text, force_terminal=True, width=140, height=50)) as display:
        display.show(20, VALUES)
        display.show(20, {"eval/l3/accuracy": 0.75, "eval/l3/accuracy/chance": 0.5})
    for shown in ("20/80", "12.3 clips/s", "l3/accuracy", "0.75", "held out", "skipped so far"):
        assert shown in text.getvalue()
    plain = io.StringIO()
    with Display(80, Console(file=plain, width=140)) as display:
        for step in range(1, 80):
            display.show(step, VALUES)
    assert plain.getvalue().count("\n") == 1
    with Display(80, None) as display:
        display.show(1, VALUES)
        display.warn("nobody hears this")
