"""Tiny encoders and synthetic batches for tests of audio-visual objectives: a planted link that can be cut, no files.

A scene has a kind: one cell of its noisy picture (4 x 4 cells of 4 px) shows the kind's pattern, its sound holds the kind's waveform.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmssl.encoders.bank import EncoderBank
from mmssl.encoders.base import Encoder
from mmssl.nn.augment import FrameAugment, WaveAugment
from mmssl.objectives.base import Objective, objective_class
from mmssl.types import Features, InputSpec

SIZE, CELL, RATE, SAMPLES, KINDS = 16, 4, 64, 64, 8
PLAIN: dict[str, Any] = {
    "frame_augment": FrameAugment(brightness=0, contrast=0, saturation=0, hue=0, flip=0),
    "wave_augment": WaveAugment(gain=0),
}


class TinyFrames(Encoder):
    modality = "frame"

    def __init__(self, dim: int = 32, constant: bool = False) -> None:
        super().__init__(dim=dim, spec=InputSpec(size=SIZE), arguments={"dim": dim, "constant": constant})
        self.conv = nn.Conv2d(3, dim, CELL, CELL)
        self.constant = constant
        self.calls = 0

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Features:
        self.calls += 1
        x = x.to(self.conv.weight.dtype) / (255 if x.dtype == torch.uint8 else 1) - 0.5
        x = x * 0.0 if self.constant else x
        grid = F.relu(self.conv(x.flatten(0, 1))).unflatten(0, x.shape[:2]).permute(0, 1, 3, 4, 2).contiguous()
        return Features(grid.mean(dim=(1, 2, 3)), grid)


class TinySounds(Encoder):
    modality = "audio"

    def __init__(self, dim: int = 24, parts: int = 1, constant: bool = False) -> None:
        super().__init__(dim=dim, spec=InputSpec(rate=RATE, seconds=SAMPLES / RATE), arguments={"dim": dim, "parts": parts})
        self.line = nn.Linear(SAMPLES // parts, dim)
        self.parts, self.constant = parts, constant
        self.calls = 0

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Features:
        self.calls += 1
        x = x.to(self.line.weight.dtype) * (0.0 if self.constant else 1.0)
        grid = F.relu(self.line(x.unflatten(1, (self.parts, -1))))[:, :, None]  # (N, T, F = 1, D)
        return Features(grid.mean(dim=(1, 2)), grid)


def tiny_encoders(constant: bool = False, parts: int = 1, double: bool = False, seed: int = 0) -> dict[str, Encoder]:
    torch.manual_seed(seed)
    encoders: dict[str, Encoder] = {"video": TinyFrames(constant=constant), "audio": TinySounds(parts=parts, constant=constant)}
    return {role: encoder.double() for role, encoder in encoders.items()} if double else encoders


class TinyFlow(Encoder):
    """Like `TinyFrames`, of flow (N, T, 2, H, W)."""

    modality = "flow"

    def __init__(self, dim: int = 16) -> None:
        super().__init__(dim=dim, spec=InputSpec(size=SIZE), arguments={"dim": dim})
        self.conv = nn.Conv2d(2, dim, CELL, CELL)

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Features:
        grid = F.relu(self.conv(x.flatten(0, 1).to(self.conv.weight.dtype))).unflatten(0, x.shape[:2])
        grid = grid.permute(0, 1, 3, 4, 2).contiguous()
        return Features(grid.mean(dim=(1, 2, 3)), grid)


VOCABULARY, PAD = 64, 0


TINY_WORDS = SimpleNamespace(
    size=VOCABULARY, pad=PAD, cls=1, sep=2, mask=3, unk=4, sent=3, special=(0, 1, 2, 3, 4), continues=(False,) * 32 + (True,) * 32
)


class TinyText(Encoder):
    """One linear mixing of token embeddings with their neighbours; knows the tokenizer "tiny", see `tiny_tokens`."""

    modality = "text"

    def __init__(self, dim: int = 20, tokens: int = 16) -> None:
        super().__init__(dim=dim, spec=InputSpec(tokens=tokens, tokenizer="tiny"), arguments={"dim": dim, "tokens": tokens})
        self.vocabulary = TINY_WORDS
        self.embed = nn.Embedding(VOCABULARY, dim)
        self.mix = nn.Linear(3 * dim, dim)

    def forward(self, x: Tensor, valid: Tensor | None = None) -> Features:
        valid = x != PAD if valid is None else valid
        embedded = self.embed(x) * valid[..., None]
        grid = torch.tanh(self.mix(torch.cat([embedded, embedded.roll(1, 1), embedded.roll(-1, 1)], dim=-1)))
        count = valid.sum(1, keepdim=True).clamp(min=1)
        return Features((grid * valid[..., None]).sum(1) / count, grid, valid)

    def decode(self, features: Features, written: Tensor) -> Tensor:
        """What comes next, from the token before and the mean of what was read."""
        return (self.embed(written) + features.pooled[:, None]) @ self.embed.weight.T


def tiny_tokens(texts, length: int) -> Tensor:
    """Token ids (P, length) by a hash of each word: 1 to 4 are special, as [CLS] [SEP] [MASK] [UNK] would be."""
    rows = torch.zeros(len(texts), length, dtype=torch.int64)
    for row, text in zip(rows, texts, strict=True):
        parts = (text,) if isinstance(text, str) else text
        ids = [1]
        for part in parts:
            ids += [5 + zlib.crc32(word.encode()) % (VOCABULARY - 5) for word in part.split()] + [2]
        row[: min(length, len(ids))] = torch.tensor(ids[:length])
    return rows


TINY = {"frame": TinyFrames, "video": TinyFrames, "audio": TinySounds, "flow": TinyFlow, "text": TinyText}


def tiny_for(cls: type[Objective], seed: int = 0) -> dict[str, Encoder]:
    """A tiny encoder for each role of an objective, of the modality that it names first."""
    torch.manual_seed(seed)
    return {role: TINY[modalities[0]]() for role, modalities in cls.roles.items()}


def build(name: str, encoders: Mapping[str, Encoder], **arguments: Any) -> Objective:
    return objective_class(name)(encoders=encoders, **arguments)


def scenes(rows: int, seed: int, *, linked: bool = True, frames: int = 1) -> dict[str, Tensor]:
    """A batch in which picture and sound share the kind, or, with the link cut, are drawn apart; also `cell`, where the pattern is."""
    fixed = torch.Generator().manual_seed(77)
    patterns = torch.randint(2, (KINDS, 3, CELL, CELL), generator=fixed).float()
    waves = torch.randn(KINDS, SAMPLES, generator=fixed)
    g = torch.Generator().manual_seed(seed)
    kind = torch.randint(KINDS, (rows,), generator=g)
    heard = kind if linked else torch.randint(KINDS, (rows,), generator=g)
    side = SIZE // CELL
    cell = torch.randint(side**2, (rows,), generator=g)
    cells = 0.5 + 0.1 * torch.randn(rows, side**2, frames, 3, CELL, CELL, generator=g)
    cells[torch.arange(rows), cell] = patterns[kind][:, None].expand(-1, frames, -1, -1, -1)
    video = cells.view(rows, side, side, frames, 3, CELL, CELL).permute(0, 3, 4, 1, 5, 2, 6).reshape(rows, frames, 3, SIZE, SIZE)
    audio = waves[heard] + 0.3 * torch.randn(rows, SAMPLES, generator=g)
    return {
        "video": (video.clamp(0, 1) * 255).to(torch.uint8),
        "audio": audio,
        "source": torch.arange(rows) + 1000 * seed,
        "kind": kind,
        "heard": heard,
        "cell": cell,
    }


def envelopes(rows: int, seed: int, *, linked: bool = True, frames: int = 8) -> dict[str, Tensor]:
    """A batch for synchronisation: brightness follows an envelope, and so does the loudness of the true sound, not of the shifted."""
    g = torch.Generator().manual_seed(seed)
    true, shifted, stranger = torch.rand(3, rows, frames, generator=g)
    video = true[:, :, None, None, None] * 0.8 + 0.05 * torch.randn(rows, frames, 3, SIZE, SIZE, generator=g)
    carrier = torch.sin(torch.arange(SAMPLES) * 1.3)

    def sound(envelope: Tensor) -> Tensor:
        return envelope.repeat_interleave(SAMPLES // frames, dim=1) * carrier + 0.02 * torch.randn(rows, SAMPLES, generator=g)

    return {
        "video": (video.clamp(0, 1) * 255).to(torch.uint8),
        "audio": sound(true if linked else stranger),
        "audio_shifted": sound(shifted),
        "source": torch.arange(rows) + 1000 * seed,
        "overlap": torch.zeros(rows, dtype=torch.int64),
        "shift": torch.ones(rows),
    }


def train(objective: Objective, encoders: Mapping[str, Encoder], make, *, steps: int, rows: int = 32, lr: float = 3e-3) -> None:
    """AdamW on fresh batches `make(rows, seed)`."""
    parameters = [*objective.parameters(), *(p for encoder in encoders.values() for p in encoder.parameters())]
    optimizer = torch.optim.AdamW(parameters, lr=lr)
    objective.train()
    for step in range(steps):
        loss = objective(make(rows, step + 1), EncoderBank(encoders))
        optimizer.zero_grad()
        loss.value.backward()
        optimizer.step()
        objective.after_step(loss.carry, step)


@torch.no_grad()
def measure(objective: Objective, encoders: Mapping[str, Encoder], make, *, rows: int = 64, batches: int = 4) -> dict[str, float]:
    """Mean metrics on held-out batches, in eval mode."""
    objective.eval()
    found = [objective(make(rows, 900_000 + k), EncoderBank(encoders)).metrics for k in range(batches)]
    return {key: sum(float(f[key]) for f in found) / batches for key in found[0]}
