"""Reading and writing on two ranks: `decode` is called by an objective, outside the encoder's own forward pass."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from mmssl.training.parallel import Ranks
from tests.text_ranks_program import gradients, model_of
from tests.tiny_text import tokenizer_file


@pytest.mark.slow
def test_two_ranks_have_the_gradients_of_one(tmp_path):
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "-m",
        "tests.text_ranks_program",
    ]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, str(tmp_path), tokenizer_file()], env=environment, capture_output=True, text=True, timeout=560, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    single = gradients(model_of(tokenizer_file()), tokenizer_file(), "none", Ranks(0, 1, torch.device("cpu")))
    for parallel in ("ddp", "fsdp"):
        found = torch.load(tmp_path / f"{parallel}.pt", weights_only=True)
        assert found.keys() == single.keys()
        for name, gradient in single.items():
            difference = (found[name] - gradient).abs().max() / gradient.abs().max().clamp(min=1e-8)
            assert difference < 1e-3, f"{parallel} {name}: {difference}"
