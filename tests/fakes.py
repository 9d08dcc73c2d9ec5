"""Small encoders, an objective with everything that is hard to resume, and an in-memory loader: for tests of the trainer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmssl.encoders.bank import EncoderBank
from mmssl.encoders.base import Encoder
from mmssl.nn.gather import gather_rows, own_rows
from mmssl.objectives.base import Batch, Objective
from mmssl.rng import rng_for
from mmssl.training.model import Pretraining, Weighting
from mmssl.training.settings import TrainConfig
from mmssl.training.trainer import Trainer
from mmssl.types import Features, InputSpec, Loss, Plan, Source, Views

ROWS, SIDE, SAMPLES, DIM, QUEUE = 8, 6, 40, 12, 16


class FakeEncoder(Encoder):
    """Pictures (N, 1, 3, 6, 6) or waves (N, 40) -> (N, 12): blocks of linear layers, with or without a batch norm."""

    modality: ClassVar = "frame"

    def __init__(self, *, inputs: int, dropout: float = 0.1, norm: str = "layer") -> None:
        super().__init__(dim=DIM, spec=InputSpec(), arguments={"inputs": inputs, "dropout": dropout, "norm": norm})
        self.stem = nn.Linear(inputs, DIM)
        self.norm = nn.BatchNorm1d(DIM) if norm == "batch" else nn.LayerNorm(DIM)
        self.blocks = nn.ModuleList([nn.Sequential(nn.Linear(DIM, DIM), nn.GELU(), nn.Dropout(dropout)) for _ in range(2)])
        # Sequentials inside a ModuleList are plain stages; wrapped ones count as blocks.
        self.layers = nn.ModuleList([Block(dropout) for _ in range(2)])

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Features:
        flat = x.flatten(1).float()
        y = self.norm(self.stem(flat))
        for block in [*self.blocks, *self.layers]:
            y = y + block(y)
        return Features(y, y[:, None, None, None] + 0)


class Block(nn.Module):
    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.linear, self.dropout = nn.Linear(DIM, DIM), nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(torch.tanh(self.linear(x)))


@dataclass(frozen=True)
class NoViews(Views):
    def reject(self, source: Source) -> str | None:
        return None

    def plan(self, source: Source, rng: np.random.Generator) -> Plan:
        return Plan({})


class FakeNce(Objective):
    """InfoNCE against the global batch and a queue; a momentum teacher of its head; a buffer that `fit` fills."""

    roles: ClassVar = {"video": ("frame",), "audio": ("frame",)}
    views = NoViews()
    centre: Tensor
    queue: Tensor

    def __init__(self, *, encoders: Mapping[str, Encoder]) -> None:
        super().__init__()
        self.head = nn.ModuleDict({role: nn.Linear(encoder.dim, DIM) for role, encoder in encoders.items()})
        self.scale = nn.Parameter(torch.tensor([5.0]))  # FSDP2 shards no scalars
        self.teacher = nn.Linear(DIM, DIM).requires_grad_(False)
        self.register_buffer("queue", F.normalize(torch.ones(QUEUE, DIM), dim=1))
        self.register_buffer("centre", torch.zeros(SAMPLES))

    def fit(self, batches: Iterator[Batch]) -> None:
        self.centre.copy_(gather_rows(next(batches)["audio"]).mean(0))

    def forward(self, batch: Batch, bank: EncoderBank) -> Loss:
        video = F.normalize(self.head["video"](bank.encode("video", batch["video"]).pooled).float(), dim=1)
        audio = F.normalize(self.head["audio"](bank.encode("audio", batch["audio"] - self.centre).pooled).float(), dim=1)
        every = gather_rows(audio)
        logits = self.scale * torch.cat([video @ every.T, video @ self.queue.T], dim=1)
        target = own_rows(len(video), video.device)
        value = F.cross_entropy(logits, target)
        hit = (logits[:, : len(every)].argmax(1) == target).float().mean().detach()
        metrics = {
            "accuracy": hit,
            "accuracy/chance": torch.full((), 1.0 / len(every), device=video.device),
            "spread/video": video.detach().std(0).mean() * DIM**0.5,
            "cosine/positive": (video * audio).sum(1).mean().detach(),
        }
        return Loss(value, metrics, {"audio": self.teacher(audio.detach())})

    def after_step(self, carry: Mapping[str, Tensor], step: int) -> None:
        self.queue.copy_(torch.cat([F.normalize(carry["audio"], dim=1), self.queue])[:QUEUE])
        self.teacher.weight.lerp_(self.head["audio"].weight.detach(), 0.1)


class FakeRegression(Objective):
    """A second objective on the same tensors: predicts the mean of the wave from the picture."""

    roles: ClassVar = {"video": ("frame",)}
    views = NoViews()

    def __init__(self, *, encoders: Mapping[str, Encoder]) -> None:
        super().__init__()
        self.line = nn.Linear(encoders["video"].dim, 1)

    def forward(self, batch: Batch, bank: EncoderBank) -> Loss:
        guess = self.line(bank.encode("video", batch["video"]).pooled).float()[:, 0]
        return Loss(F.mse_loss(guess, batch["audio"].mean(1)))


@dataclass
class FakeStep:
    micro: list[dict[str, dict[str, Tensor]]]
    replaced: list[str] = field(default_factory=list)


@dataclass
class FakeLoader:
    """Rows whose sound follows from their picture, drawn by address."""

    seed: int = 0
    rank: int = 0
    world: int = 1
    accumulate: int = 1
    rows: int = ROWS
    names: tuple[str, ...] = ("nce", "regression")
    poison: tuple[int, ...] = ()  # steps whose sound is not a number
    linked: bool = True  # False: the sound follows from nothing

    def steps(self, start: int, stop: int) -> Iterator[FakeStep]:
        for step in range(start, stop):
            yield FakeStep([self.micro(step, place) for place in range(self.accumulate)])

    def micro(self, step: int, place: int) -> dict[str, dict[str, Tensor]]:
        rng = rng_for(self.seed, 99, step * self.accumulate + place)
        hidden = rng.standard_normal((self.rows, 4))
        mix = rng_for(self.seed, 98)
        video = np.tanh(hidden @ mix.standard_normal((4, 3 * SIDE * SIDE)))
        if not self.linked:
            hidden = rng.standard_normal((self.rows, 4))
        audio = np.tanh(hidden @ mix.standard_normal((4, SAMPLES)))
        if step in self.poison:
            audio[0, 0] = np.nan
        own = slice(self.rank, None, self.world)
        shared = {
            "video": torch.from_numpy(video).float().view(-1, 1, 3, SIDE, SIDE)[own],
            "audio": torch.from_numpy(audio).float()[own],
            "source": torch.arange(self.rows)[own],
        }
        return {name: dict(shared) for name in self.names}


def fake_model(
    *, dropout: float = 0.1, norm: str = "layer", names: tuple[str, ...] = ("nce", "regression"), weighting: Weighting = "fixed"
) -> Pretraining:
    torch.manual_seed(0)
    encoders: dict[str, Encoder] = {
        "video": FakeEncoder(inputs=3 * SIDE * SIDE, dropout=dropout, norm=norm),
        "audio": FakeEncoder(inputs=SAMPLES, dropout=dropout, norm=norm),
    }
    built: dict[str, Objective] = {"nce": FakeNce(encoders=encoders), "regression": FakeRegression(encoders=encoders)}
    weights = {"regression": 0.5} if "regression" in names else {}
    return Pretraining(encoders, {name: built[name] for name in names}, weights, weighting=weighting)


def fake_config(**values: Any) -> TrainConfig:
    defaults: dict[str, Any] = {
        "steps": 12,
        "lr": 1e-2,
        "warmup": 3,
        "dtype": "float32",
        "device": "cpu",
        "ema": 0.9,
        "save_every": 5,
        "log_every": 4,
        "eval_rows": 16,
    }
    return TrainConfig(**{**defaults, **values})


def fake_trainer(out: Path, *, model: Pretraining | None = None, loader: FakeLoader | None = None, **values: Any) -> Trainer:
    config = fake_config(**values)
    return Trainer(
        model or fake_model(weighting=config.weighting),
        loader or FakeLoader(accumulate=config.accumulate),
        config=config,
        out=out,
        seed=3,
        identity={"config": {"train": {"steps": config.steps, "lr": config.lr, "workers": config.workers}}, "data": ["abc"]},
        evaluation=FakeLoader(seed=0),
        display=False,
    )
