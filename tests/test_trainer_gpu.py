"""The trainer on a CUDA device: no step waits for it, bad steps are undone there, a resumed run is exact, blocks compile."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mmssl.training.checkpoint import MODEL
from mmssl.training.log import read_metrics
from mmssl.training.state import run_tensors
from tests.fakes import FakeLoader, fake_trainer
from tests.test_trainer import Crash, TroubledLoader, fingerprint

pytestmark = pytest.mark.gpu


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_no_step_waits_for_the_device_and_a_bad_one_is_undone(tmp_path: Path, dtype: str) -> None:
    loader = FakeLoader(poison=(4,), accumulate=2)
    trainer = fake_trainer(tmp_path, loader=loader, device="cuda", dtype=dtype, accumulate=2)
    trainer._prepare(resume=False)
    batches = list(loader.steps(0, 8))
    for step in range(3):  # allocations and libraries' first calls may wait
        trainer.train_step(step, batches[step])
    torch.cuda.set_sync_debug_mode("error")  # noqa: TID251
    try:
        trainer.train_step(3, batches[3])
    finally:
        torch.cuda.set_sync_debug_mode("default")  # noqa: TID251
    before = run_tensors(trainer.model, trainer._optimizer, None)
    trainer.train_step(4, batches[4])
    after = run_tensors(trainer.model, trainer._optimizer, None)
    assert all(torch.equal(after[file][name], tensor) for file, tensors in before.items() for name, tensor in tensors.items())
    assert trainer._nonfinite.total == 1


def test_a_resumed_run_is_exact_on_the_device_too(tmp_path: Path) -> None:
    fake_trainer(tmp_path / "a", device="cuda", dtype="bfloat16").fit()
    with pytest.raises(Crash):
        fake_trainer(tmp_path / "b", device="cuda", dtype="bfloat16", loader=TroubledLoader(at=8)).fit()
    fake_trainer(tmp_path / "b", device="cuda", dtype="bfloat16").fit(resume=True)
    assert fingerprint(tmp_path / "b") == fingerprint(tmp_path / "a")


def test_compiled_blocks_learn_what_plain_ones_learn(tmp_path: Path) -> None:
    for name, compiled in (("plain", False), ("compiled", True)):
        fake_trainer(tmp_path / name, device="cuda", compile=compiled).fit()
    plain, compiled = (read_metrics(tmp_path / name / "metrics.jsonl")[0]["loss"] for name in ("plain", "compiled"))
    assert compiled == pytest.approx(plain, rel=0.2)  # dropout draws differ under the compiler
    assert fingerprint(tmp_path / "compiled").keys() == fingerprint(tmp_path / "plain").keys()
    assert MODEL in fingerprint(tmp_path / "compiled")
