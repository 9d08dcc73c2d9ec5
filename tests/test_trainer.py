"""The loop: exact resume, skipped steps, accumulation, evaluation without a trace, what a run folder holds."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from mmssl.encoders.base import Encoder
from mmssl.training.checkpoint import MODEL, OPTIMIZER, checkpoints, read_tensors
from mmssl.training.errors import Interrupted, RunError
from mmssl.training.log import read_metrics
from mmssl.training.model import to_device
from mmssl.training.state import run_tensors
from mmssl.types import InputError
from tests.fakes import FakeLoader, FakeStep, fake_model, fake_trainer


class Crash(Exception):  # noqa: N818
    pass


@dataclass
class TroubledLoader(FakeLoader):
    """Raises, or sends this process a signal, when step `at` is asked for."""

    at: int = 0
    number: int | None = None

    def steps(self, start: int, stop: int) -> Iterator[FakeStep]:
        for step, batch in zip(range(start, stop), super().steps(start, stop), strict=True):
            if step == self.at and stop - start > 1:  # objective.fit asks too, but stops at step 0
                if self.number is None:
                    raise Crash
                os.kill(os.getpid(), self.number)
            yield batch


def fingerprint(out: Path) -> dict[str, bytes]:
    """Every file of the newest checkpoint, byte for byte, and the metrics without what a clock measured."""
    newest = checkpoints(out / "ckpt")[-1]
    files = {str(p.relative_to(newest)): p.read_bytes() for p in sorted(newest.rglob("*")) if p.is_file()}
    lines = [{k: v for k, v in line.items() if not k.startswith("speed/")} for line in read_metrics(out / "metrics.jsonl")]
    return {"step": newest.name.encode(), **files, "metrics": json.dumps(lines).encode()}


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("straight")
    fake_trainer(out, accumulate=2, eval_every=6).fit()
    return out


def test_a_run_that_crashed_and_resumed_equals_one_that_did_not_bit_for_bit(straight: Path, tmp_path: Path) -> None:
    with pytest.raises(Crash):
        fake_trainer(tmp_path, accumulate=2, eval_every=6, loader=TroubledLoader(accumulate=2, at=8)).fit()
    assert [path.name for path in checkpoints(tmp_path / "ckpt")] == ["0000005"]
    fake_trainer(tmp_path, accumulate=2, eval_every=6).fit(resume=True)
    assert fingerprint(tmp_path) == fingerprint(straight)


def test_muons_momentum_survives_a_crash_bit_for_bit(tmp_path: Path) -> None:
    fake_trainer(tmp_path / "whole", optimizer="muon").fit()
    with pytest.raises(Crash):
        fake_trainer(tmp_path / "cut", optimizer="muon", loader=TroubledLoader(at=8)).fit()
    fake_trainer(tmp_path / "cut", optimizer="muon").fit(resume=True)
    assert fingerprint(tmp_path / "cut") == fingerprint(tmp_path / "whole")
    assert any(key.endswith("/momentum") for key in read_tensors(checkpoints(tmp_path / "cut" / "ckpt")[-1] / OPTIMIZER))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_finishes_the_step_saves_and_says_how_to_go_on(straight: Path, tmp_path: Path, number: int) -> None:
    with pytest.raises(Interrupted, match=r"after step 7 of 12.*--resume") as stopped:
        fake_trainer(tmp_path, accumulate=2, eval_every=6, loader=TroubledLoader(accumulate=2, at=6, number=number)).fit()
    assert stopped.value.checkpoint.name == "0000007"
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    fake_trainer(tmp_path, accumulate=2, eval_every=6).fit(resume=True)
    assert fingerprint(tmp_path) == fingerprint(straight)


def test_resuming_a_finished_run_changes_nothing(straight: Path) -> None:
    before = fingerprint(straight)
    fake_trainer(straight, accumulate=2, eval_every=6).fit(resume=True)
    assert fingerprint(straight) == before


def test_the_run_depends_on_what_it_should_depend_on(straight: Path, tmp_path: Path) -> None:
    # Guards the tests above: a fingerprint that never changes would pass them all.
    fake_trainer(tmp_path, accumulate=2, eval_every=6, loader=FakeLoader(accumulate=2, seed=1)).fit()
    assert fingerprint(tmp_path)[MODEL] != fingerprint(straight)[MODEL]


def test_a_run_folder_is_not_overwritten_and_resume_without_checkpoint_begins(straight: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="already holds a run"):
        fake_trainer(straight, accumulate=2).fit()
    fake_trainer(tmp_path, accumulate=2, eval_every=6).fit(resume=True)
    assert fingerprint(tmp_path) == fingerprint(straight)


def test_resume_refuses_another_run_and_shows_what_differs(straight: Path) -> None:
    with pytest.raises(InputError, match=r"config\.train\.lr: 0\.01 in the checkpoint, 0\.02 now"):
        fake_trainer(straight, accumulate=2, lr=0.02).fit(resume=True)
    with pytest.raises(InputError, match=r"train\.steps: 12 in the checkpoint, 20 now \(the learning rate"):
        fake_trainer(straight, accumulate=2, steps=20).fit(resume=True)
    fake_trainer(straight, accumulate=2, workers=0).fit(resume=True)


def test_resume_refuses_a_checkpoint_without_the_averages_it_needs(tmp_path: Path) -> None:
    fake_trainer(tmp_path, ema=0.0).fit()
    with pytest.raises(InputError, match=r"ema\.safetensors cannot be read"):
        fake_trainer(tmp_path, ema=0.9).fit(resume=True)


def test_evaluating_leaves_no_trace_in_training(straight: Path, tmp_path: Path) -> None:
    fake_trainer(tmp_path, accumulate=2, eval_every=1).fit()
    assert fingerprint(tmp_path)[MODEL] == fingerprint(straight)[MODEL]
    assert fingerprint(tmp_path)["ema.safetensors"] == fingerprint(straight)["ema.safetensors"]


def test_evaluation_uses_the_averages_and_the_same_rows_each_time(tmp_path: Path) -> None:
    fake_trainer(tmp_path, lr=0.0, eval_every=4, ema=0.5, steps=8).fit()
    values = [line["eval/regression/loss"] for line in read_metrics(tmp_path / "metrics.jsonl") if "eval/loss" in line]
    assert len(values) == 2 and values[0] == values[1]  # nothing learnt: the same rows give the same figure
    trained = fake_trainer(tmp_path / "b", steps=8, ema=0.9)
    trained.fit()
    assert trained._evaluation is not None
    averaged = trained._evaluation.run(trained.model, trained._ema)
    assert averaged == {k: v for k, v in read_metrics(tmp_path / "b/metrics.jsonl")[-1].items() if k != "step"}
    assert averaged != trained._evaluation.run(trained.model, None)


def test_two_micro_batches_are_one_batch_of_both(tmp_path: Path) -> None:
    # Without dropout, and with a loss that is a mean over rows, accumulation is exact up to rounding.
    @dataclass
    class Halves(FakeLoader):
        def steps(self, start: int, stop: int) -> Iterator[FakeStep]:
            for batch in super().steps(start, stop):
                whole = batch.micro[0]
                yield FakeStep([{n: {k: v[half::2] for k, v in d.items()} for n, d in whole.items()} for half in (0, 1)])

    names = ("regression",)
    models = []
    for place, loader in enumerate((FakeLoader(names=names), Halves(names=names))):
        trainer = fake_trainer(tmp_path / str(place), model=fake_model(dropout=0.0, names=names), loader=loader, ema=0.0)
        trainer._evaluation = None
        trainer.fit()
        models.append(trainer.model.state_dict())
    for name, tensor in models[0].items():
        torch.testing.assert_close(models[1][name], tensor, rtol=0, atol=2e-6)


def test_a_step_with_a_bad_loss_changes_nothing_and_is_counted(tmp_path: Path) -> None:
    loader = FakeLoader(poison=(3,))
    trainer = fake_trainer(tmp_path, model=fake_model(norm="batch"), loader=loader)
    trainer._prepare(resume=False)
    batches = loader.steps(0, 12)
    for step in range(3):
        trainer.train_step(step, next(batches))
    before = run_tensors(trainer.model, trainer._optimizer, None)
    trainer.train_step(3, next(batches))
    after = run_tensors(trainer.model, trainer._optimizer, None)
    for file, tensors in before.items():
        for name, tensor in tensors.items():
            assert torch.equal(after[file][name], tensor), name
    assert trainer._nonfinite.total == 1
    assert all(value.isfinite().all() for value in trainer._ema.average.values())  # type: ignore[union-attr]
    trainer.train_step(4, next(batches))
    moved = run_tensors(trainer.model, trainer._optimizer, None)[MODEL]
    assert not torch.equal(moved["encoders.video.stem.weight"], after[MODEL]["encoders.video.stem.weight"])
    assert all(value == value for value in trainer._meter.take(trainer.ranks).values())  # no nan among the means


def test_bad_steps_in_a_row_end_the_run_and_name_the_objective(tmp_path: Path) -> None:
    loader = FakeLoader(poison=tuple(range(6, 12)))
    with pytest.raises(RunError, match=r"the loss of (nce|regression) was not finite in 6 steps in a row.*max_nonfinite = 3"):
        fake_trainer(tmp_path, loader=loader, max_nonfinite=3, log_every=6).fit()
    assert read_tensors(checkpoints(tmp_path / "ckpt")[-1] / MODEL)["encoders.video.stem.weight"].isfinite().all()


def test_counts_of_bad_steps_survive_a_resume(tmp_path: Path) -> None:
    loader = FakeLoader(poison=(1, 7))
    fake_trainer(tmp_path / "straight", loader=loader).fit()
    with pytest.raises(Crash):
        fake_trainer(tmp_path / "cut", loader=TroubledLoader(at=8, poison=(1, 7))).fit()
    fake_trainer(tmp_path / "cut", loader=loader).fit(resume=True)
    assert fingerprint(tmp_path / "cut") == fingerprint(tmp_path / "straight")
    assert read_metrics(tmp_path / "cut/metrics.jsonl")[-2]["skipped"] == 2


def test_the_run_folder_holds_encoders_with_averaged_weights(straight: Path) -> None:
    ema = read_tensors(checkpoints(straight / "ckpt")[-1] / "ema.safetensors")
    encoder = Encoder.from_pretrained(straight / "encoders/video")
    for name, parameter in encoder.named_parameters():
        assert torch.equal(parameter, ema[f"encoders.video.{name}"]), name


def test_fit_of_an_objective_runs_once_at_step_0(straight: Path) -> None:
    centre = read_tensors(checkpoints(straight / "ckpt")[-1] / MODEL)["objectives.nce.centre"]
    torch.testing.assert_close(centre, FakeLoader(accumulate=2).micro(0, 0)["nce"]["audio"].mean(0))


def test_checkpoints_are_pruned_to_the_newest(tmp_path: Path) -> None:
    fake_trainer(tmp_path, save_every=2, keep=2).fit()
    assert [path.name for path in checkpoints(tmp_path / "ckpt")] == ["0000010", "0000012"]


def test_a_tensor_that_two_objectives_share_is_moved_once() -> None:
    micro = FakeLoader().micro(0, 0)
    moved = to_device(micro, torch.device("meta"))
    assert moved["nce"]["video"] is moved["regression"]["video"]
    assert moved["nce"]["video"] is not moved["nce"]["audio"]
    assert moved["nce"]["video"].device.type == "meta"


def test_bfloat16_and_channels_last_train_too(tmp_path: Path) -> None:
    fake_trainer(tmp_path, dtype="bfloat16").fit()
    lines = read_metrics(tmp_path / "metrics.jsonl")
    assert lines[-2]["loss"] < lines[0]["loss"]


@pytest.mark.slow
def test_compiled_blocks_give_the_same_weights_and_the_same_names(tmp_path: Path) -> None:
    for name, compiled in (("plain", False), ("compiled", True)):
        fake_trainer(tmp_path / name, model=fake_model(dropout=0.0), compile=compiled, steps=4).fit()
    plain, compiled = (read_tensors(checkpoints(tmp_path / name / "ckpt")[-1] / MODEL) for name in ("plain", "compiled"))
    assert plain.keys() == compiled.keys()
    for key, tensor in plain.items():
        torch.testing.assert_close(compiled[key], tensor, rtol=0, atol=1e-4)
