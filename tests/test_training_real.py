"""The trainer with the real encoders, objectives and EncoderBank on random rows: a few steps, resumed exactly, exported and read back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from mmssl.encoders.base import Encoder, build_encoder
from mmssl.objectives.base import objective_class
from mmssl.rng import rng_for
from mmssl.training.errors import Interrupted
from mmssl.training.model import Pretraining, blocks_of, conv_channels_last
from mmssl.training.trainer import Trainer
from tests.fakes import FakeStep, fake_config
from tests.test_trainer import fingerprint

RATE, PIXELS = 8000, 32


class RandomRows:
    """Two objectives share one stream: the same tensor objects stand under both."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.stop_at = stop_at

    def steps(self, start: int, stop: int) -> Iterator[FakeStep]:
        import os
        import signal

        for step in range(start, stop):
            rng = rng_for(7, step)
            shared = {
                "video": torch.from_numpy(rng.integers(0, 256, (6, 1, 3, PIXELS, PIXELS), dtype="uint8")),
                "audio": torch.from_numpy(rng.standard_normal((6, RATE), dtype="float32") * 0.1),
                "source": torch.tensor([0, 1, 2, 3, 4, 4]),
            }
            if step == self.stop_at:
                os.kill(os.getpid(), signal.SIGTERM)
            yield FakeStep([{"av_nce": shared, "avenet": shared}])


def real_trainer(out: Path, loader: RandomRows) -> Trainer:
    torch.manual_seed(0)
    encoders: dict[str, Encoder] = {
        "video": build_encoder("frame_resnet", {"size": "tiny", "pixels": PIXELS}),
        "audio": build_encoder("audio_cnn", {"size": "tiny", "rate": RATE, "seconds": 1.0, "mels": 32}),
    }
    objectives = {
        "av_nce": objective_class("av_nce")(encoders=encoders, queue=12, dim=16),  # type: ignore[call-arg]
        "avenet": objective_class("avenet")(encoders=encoders),  # type: ignore[call-arg]
    }
    config = fake_config(steps=4, save_every=10, log_every=3, dtype="bfloat16", lr=1e-3)
    return Trainer(
        Pretraining(encoders, objectives),
        loader,
        config=config,
        out=out,
        seed=0,
        identity={},
        evaluation=RandomRows(),
        display=False,
    )


def test_real_parts_train_resume_exactly_and_export(tmp_path: Path) -> None:
    real_trainer(tmp_path / "a", RandomRows()).fit()
    with pytest.raises(Interrupted):
        real_trainer(tmp_path / "b", RandomRows(stop_at=1)).fit()
    trainer = real_trainer(tmp_path / "b", RandomRows())
    trainer.fit(resume=True)
    assert fingerprint(tmp_path / "b") == fingerprint(tmp_path / "a")
    encoder = Encoder.from_pretrained(tmp_path / "b/encoders/video").eval()
    assert encoder(torch.zeros(1, 1, 3, PIXELS, PIXELS, dtype=torch.uint8)).pooled.isfinite().all()


def test_encoders_are_taken_apart_into_their_blocks() -> None:
    resnet = build_encoder("frame_resnet", {"size": "resnet18", "pixels": 64})
    names = {type(block).__name__ for block in blocks_of(resnet)}
    assert names == {"BasicBlock"} and len(blocks_of(resnet)) == 8
    line = torch.nn.Linear(2, 2)
    assert blocks_of(line) == [line]


def test_kernels_of_convolutions_lie_channels_last() -> None:
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Conv3d(3, 4, 3), torch.nn.Linear(3, 3))
    conv_channels_last(net)
    assert net[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert net[1].weight.is_contiguous(memory_format=torch.channels_last_3d)
