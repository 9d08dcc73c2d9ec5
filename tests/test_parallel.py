"""Two gloo processes under torchrun against one process with the same global batch: DDP and FSDP2, the same code."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from mmssl.nn.gather import rank_and_world
from mmssl.run import load_run
from mmssl.training.checkpoint import EMA, MODEL, OPTIMIZER, checkpoints, read_tensors
from mmssl.training.log import read_metrics
from mmssl.training.parallel import join_ranks
from mmssl.types import InputError
from tests.conftest import ROOT
from tests.fakes import FakeLoader
from tests.ranks_program import CASES, train
from tests.test_trainer import fingerprint

TOLERANCE = {"rtol": 0.0, "atol": 1e-5}  # after 12 AdamW steps at lr 1e-2 in float32; a wrong factor shows at 1e-2


@pytest.fixture(scope="module")
def torchrun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("two")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "tests.ranks_program", str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return out


@pytest.fixture(scope="module", params=["ddp", "fsdp"])
def two_ranks(request: pytest.FixtureRequest, torchrun: Path) -> tuple[str, Path]:
    return request.param, torchrun / request.param


@pytest.fixture(scope="module")
def one_rank(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("one")
    for name in ("plain", "accumulate", "uncertainty", "gradients"):  # a batch norm of one process sees other rows
        train(out / name, FakeLoader(accumulate=CASES[name].get("accumulate", 1)), "none", **CASES[name])  # type: ignore[arg-type]
    return out


def newest(run: Path, file: str) -> dict[str, torch.Tensor]:
    return read_tensors(checkpoints(run / "ckpt")[-1] / file)


@pytest.mark.parametrize("name", ["plain", "accumulate", "uncertainty"])
def test_two_processes_equal_one(two_ranks: tuple[str, Path], one_rank: Path, name: str) -> None:
    # Covers the gradient through gathered negatives, the queue of all ranks' rows, the teacher, the averages and the moments.
    for file in (MODEL, EMA, OPTIMIZER):
        expected, found = newest(one_rank / name, file), newest(two_ranks[1] / name, file)
        assert found.keys() == expected.keys()
        for key, tensor in expected.items():
            if not key.startswith("objectives.nce.centre"):  # fitted on the first rank's rows
                torch.testing.assert_close(found[key], tensor, **TOLERANCE, msg=lambda text, key=key: f"{key}: {text}")


def test_logged_and_evaluated_means_are_over_all_ranks(two_ranks: tuple[str, Path], one_rank: Path) -> None:
    lines = [read_metrics(folder / "plain/metrics.jsonl") for folder in (one_rank, two_ranks[1])]
    for expected, found in zip(*lines, strict=True):
        for key in ("loss", "nce/accuracy", "eval/loss", "eval/rows", "eval/nce/accuracy", "grad_norm"):
            if key in expected:
                assert found[key] == pytest.approx(expected[key], abs=1e-5), key


def test_gradient_figures_are_of_the_whole_batch(torchrun: Path, one_rank: Path) -> None:
    expected, found = (read_metrics(folder / "gradients/metrics.jsonl") for folder in (one_rank, torchrun / "ddp"))
    keys = [key for key in expected[0] if "gradient" in key]
    assert len(keys) == 4  # nce on both encoders, regression on one, and where they meet
    for one, two in zip(expected[:3], found[:3], strict=True):
        for key in [*keys, "nce/weight", "regression/log_variance"]:
            assert two[key] == pytest.approx(one[key], rel=1e-3), key


def test_replicas_are_equal_bit_for_bit(two_ranks: tuple[str, Path]) -> None:
    parallel, out = two_ranks
    if parallel != "ddp":
        pytest.skip("FSDP2 has no replicas")
    for name in CASES:
        first, second = (torch.load(out / f"{name}.{rank}.pt", weights_only=True) for rank in (0, 1))
        assert all(torch.equal(first[key], second[key]) for key in first), name


def test_a_resumed_run_on_two_ranks_is_exact(two_ranks: tuple[str, Path]) -> None:
    assert fingerprint(two_ranks[1] / "resumed") == fingerprint(two_ranks[1] / "plain")


def test_all_ranks_skip_a_step_that_is_bad_on_one(two_ranks: tuple[str, Path]) -> None:
    assert [(two_ranks[1] / f"poisoned/skipped.{rank}").read_text() for rank in (0, 1)] == ["1", "1"]
    assert all(tensor.isfinite().all() for tensor in newest(two_ranks[1] / "poisoned", MODEL).values())


def test_a_checkpoint_that_cannot_be_written_ends_all_ranks_with_the_reason(two_ranks: tuple[str, Path]) -> None:
    texts = [(two_ranks[1] / f"full.error.{rank}").read_text() for rank in (0, 1)]
    assert texts[0] == texts[1] and "checkpoint of step 5 could not be written" in texts[0]


def test_one_process_goes_on_from_a_checkpoint_of_two_with_a_warning(
    two_ranks: tuple[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import shutil

    from rich.console import Console

    from mmssl.training.trainer import Trainer
    from tests.fakes import fake_config, fake_model

    shutil.copytree(two_ranks[1] / "plain", tmp_path / "run")
    shutil.rmtree(tmp_path / "run/ckpt/0000012")
    config = fake_config()
    common: dict[str, Any] = {"config": config, "out": tmp_path / "run", "seed": 3, "identity": {"steps": config.steps}}
    Trainer(fake_model(dropout=0.0), FakeLoader(), **common, console=Console()).fit(resume=True)
    assert "written by 2 processes and 1 go on" in capsys.readouterr().out
    expected, found = newest(two_ranks[1] / "plain", MODEL), newest(tmp_path / "run", MODEL)
    for key, tensor in expected.items():
        torch.testing.assert_close(found[key], tensor, **TOLERANCE)


def test_several_processes_of_a_run_that_is_not_parallel_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match=r"2 processes were started, but train\.parallel is none"):
        join_ranks("none", "cpu")


def test_a_device_that_is_not_there_is_refused() -> None:
    if torch.cuda.is_available():  # noqa: TID251
        pytest.skip("there is a GPU")
    with pytest.raises(InputError, match=r"train\.device is cuda"):
        join_ranks("none", "cuda")


def test_one_rank_needs_no_process_group() -> None:
    ranks = join_ranks("fsdp", "cpu")
    assert (ranks.rank, ranks.world, ranks.first) == (0, 1, True)
    assert rank_and_world() == (0, 1)


def start_two(*arguments: str) -> list[tuple[int, str]]:
    """`mmssl train` as two ranks: each one's exit status and what it said on stderr."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "mmssl", "train", *arguments, "train.device=cpu", "train.workers=0"]
    processes = [
        subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, **place, "RANK": rank, "LOCAL_RANK": rank}, stderr=subprocess.PIPE, text=True
        )
        for rank in ("0", "1")
    ]
    said = [process.communicate(timeout=240)[1] for process in processes]
    return [(process.returncode, text) for process, text in zip(processes, said, strict=True)]


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_a_shipped_config_trains_on_two_ranks(toy: Path, tmp_path: Path, parallel: str) -> None:
    """Under fsdp it ended at once (kernels laid out channels-last), or by SIGABRT after the last step; under ddp torch warned of strides."""
    run = tmp_path / "run"
    small = ("streams.0.batch=4", "train.steps=2", "train.warmup=0", "train.eval_rows=4", "train.optimizer=adamw")
    arguments = (f"streams.0.data={toy}", f"train.parallel={parallel}", "--out", str(run))
    for status, said in start_two("configs/tiny/contrastive_random_walk.yaml", *small, *arguments):
        assert status == 0, said
        assert "strides" not in said
    assert load_run(run).step == 2


def test_data_that_only_the_first_rank_has_opened_end_all_with_one_sentence(toy: Path, tmp_path: Path) -> None:
    """The others waited for it, and ended with the traceback of a broken connection."""
    arguments = (f"streams.0.data={toy}", "streams.0.holdout=1000", "train.parallel=ddp", "--out", str(tmp_path / "run"))
    for status, said in start_two("configs/tiny/av_nce.yaml", *arguments):
        assert status == 2
        assert "leaves none to train on" in said
        assert "Traceback" not in said
