"""The smallest objective, living outside mmssl: predict a coin that the views have thrown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import nn

from mmssl.encoders.bank import EncoderBank
from mmssl.encoders.base import Encoder
from mmssl.objectives.base import Batch, Objective
from mmssl.types import Frames, Loss, Plan, Source, Views


@dataclass(frozen=True)
class CoinViews(Views):
    frames: int = 1
    size: int = 16

    def reject(self, source: Source) -> str | None:
        return None if source.has_video else "no picture"

    def plan(self, source: Source, rng: np.random.Generator) -> Plan:
        assert source.video is not None
        times = np.sort(rng.uniform(source.video.start, source.video.end - 0.05, self.frames))
        return Plan({"video": Frames(tuple(float(t) for t in times), self.size)}, {"coin": int(rng.integers(2))})


class GuessHalf(Objective):
    roles: ClassVar = {"video": ("frame", "video")}

    def __init__(self, *, encoders: Mapping[str, Encoder], views: CoinViews = CoinViews(), hidden: int = 4) -> None:
        super().__init__()
        self.views = views
        self.head = nn.Linear(encoders["video"].dim, 2)
        self.hidden = hidden

    def forward(self, batch: Batch, bank: EncoderBank) -> Loss:
        logits = self.head(bank.encode("video", batch["video"]).pooled)
        hits = (logits.argmax(1) == batch["coin"]).float().mean()
        metrics = {"accuracy": hits.detach(), "accuracy/chance": torch.tensor(0.5)}
        return Loss(nn.functional.cross_entropy(logits, batch["coin"]), metrics)
