"""Pictures and sound as one objective of a run takes them: sizes read from its own views, encoding in batches.

Downstream never guesses how a model was fed: the shape of a cut (picture size, frame spacing, seconds and rate of sound) is read off a
plan that the objective's views draw.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mmssl.encoders.base import Encoder
from mmssl.objectives.base import Localizes, Objective
from mmssl.rng import Purpose, rng_for
from mmssl.types import Features, Frames, InputError, Modality, Source, Span, Views, Wave


@dataclass(frozen=True, slots=True)
class CutShape:
    """What one cut of an objective's views looks like; times in seconds."""

    video: str  # role of the pictures
    audio: str  # role of the sound
    size: tuple[int, int]  # height, width of the pictures in pixels
    frames: int
    spacing: float  # between two pictures of a cut; 0.0 with one picture
    seconds: float  # of sound
    rate: int  # samples a second


@runtime_checkable
class Corresponds(Protocol):
    """An objective that says of any picture and any sound how well they go together."""

    def correspondence(self, video: Features, audio: Features) -> Tensor:
        """Scores (N, M); higher: the sound belongs to the picture."""
        ...


@dataclass(frozen=True, slots=True)
class Pairing:
    """An objective, its encoders, and the shape of its cuts: all that the downstream tools need of a run."""

    name: str
    objective: Corresponds | Localizes
    views: Views
    encoders: Mapping[str, Encoder]
    shape: CutShape
    device: torch.device

    @property
    def modality(self) -> Modality:
        """Of the picture encoder: "frame" (each picture alone) or "video" (a clip at a time)."""
        return self.encoders[self.shape.video].modality

    @property
    def localizes(self) -> bool:
        """Whether there are similarity maps, not only scores."""
        return isinstance(self.objective, Localizes)

    @torch.inference_mode()
    def encode(self, role: str, x: Tensor | NDArray[np.generic], *, batch: int = 32) -> Features:
        """Features of all rows, `batch` at a time, on the CPU: uint8 (N, T, 3, H, W) or float32 (N, samples)."""
        tensor = torch.as_tensor(x)
        parts = [self.encoders[role](tensor[i : i + batch].to(self.device)) for i in range(0, len(tensor), batch)]
        valid = [part.valid.cpu() for part in parts if part.valid is not None]
        return Features(
            torch.cat([part.pooled.float().cpu() for part in parts]),
            torch.cat([part.grid.float().cpu() for part in parts]),
            torch.cat(valid) if valid else None,
        )

    @torch.inference_mode()
    def embed(self, role: str, features: Features) -> NDArray[np.float32]:
        """Unit-length joint embeddings (N, D). Raises `InputError` where the objective has no joint space."""
        if not isinstance(self.objective, Localizes):
            raise InputError(f"objective {self.name} has no joint space of picture and sound")
        return self.objective.embed(role, self._put(features)).float().cpu().numpy()

    @torch.inference_mode()
    def maps(self, video: Features, audio: Features) -> NDArray[np.float32]:
        """Cosine of each picture cell with the paired sound, (N, T, H, W). Raises `InputError` where the objective gives none."""
        if not isinstance(self.objective, Localizes):
            raise InputError(f"objective {self.name} gives no similarity map of picture and sound")
        return self.objective.similarity_map(self._put(video), self._put(audio)).float().cpu().numpy()

    @torch.inference_mode()
    def cells(self, video: Features) -> NDArray[np.float32]:
        """Unit-length joint embeddings of all cells of each picture, (N, T, H, W, D).

        Their products with the embeddings of sounds are the maps, where the objective compares cell by cell; see `compares_cells`.
        """
        grid = video.grid.flatten(0, -2)
        one_by_one = Features(grid, grid[:, None, None, None])
        return self.embed(self.shape.video, one_by_one).reshape(*video.grid.shape[:-1], -1)

    def compares_cells(self, video: Features, audio: Features) -> bool:
        """Whether `maps` of these pairs are `cells` times `embed`: not so where an objective compares courses over time (avts with bins)."""
        sounds, pictures = self.embed(self.shape.audio, audio), _rows(video, 0, 1)
        try:
            cells = self.cells(pictures)
        except RuntimeError:  # a head of several parts of the window, given cells that have one
            return False
        if cells.shape[-1] != sounds.shape[-1]:
            return False
        maps = self.maps(pictures, _rows(audio, 0, 1))
        return bool(np.allclose(np.einsum("nthwd,nd->nthw", cells, sounds[:1]), maps, atol=0.02))

    @torch.inference_mode()
    def scores(self, video: Features, audio: Features, *, rows: int = 32) -> NDArray[np.float32]:
        """Correspondence of all pairs, (N, M); `rows` pictures at a time, so that memory stays flat."""
        heard = self._put(audio)
        parts = [
            self.objective.correspondence(self._put(_rows(video, i, i + rows)), heard) for i in range(0, len(video.pooled), rows)
        ]
        return torch.cat([part.float().cpu() for part in parts]).numpy()

    def _put(self, features: Features) -> Features:
        return features.each(lambda part: part.to(self.device))


def pair(name: str, objective: Objective, encoders: Mapping[str, Encoder], *, device: str | torch.device = "cpu") -> Pairing:
    """Set an objective and its encoders up for inference (eval mode, on `device`).

    Raises:
        InputError: the objective does not score pairs of picture and sound.
    """
    if not isinstance(objective, (Localizes, Corresponds)):
        raise InputError(f"objective {name} does not compare picture and sound; choose one such as av_nce or avenet")
    place = torch.device(device)
    objective.to(place).eval()
    for role in objective.roles:
        encoders[role].to(place).eval()
    return Pairing(name, objective, objective.views, encoders, cut_shape(name, objective), place)


def choose(objectives: Mapping[str, Objective], name: str | None = None) -> str:
    """The objective to use: `name`, or the first of the run that localizes.

    Raises:
        InputError: there is no such objective in the run, or none that localizes.
    """
    able = [key for key, objective in objectives.items() if isinstance(objective, Localizes)]
    if name is not None and name not in objectives:
        raise InputError(f"the run has no objective {name!r}; it has {', '.join(objectives)}")
    if name is not None and name not in able:
        raise InputError(f"objective {name} gives no similarity map; of this run these do: {', '.join(able) or 'none'}")
    if not able:
        raise InputError(
            f"no objective of this run ({', '.join(objectives)}) compares picture and sound in one space; train av_nce or avenet"
        )
    return name or able[0]


def cut_shape(name: str, objective: Objective) -> CutShape:
    """Read the shape of a cut off a plan for an imaginary ten-minute film.

    Raises:
        InputError: the plan holds no request for pictures or none for sound under the objective's roles.
    """
    span = Span(0.0, 600.0)
    film = Source("film", Path("film.mp4"), fps=25.0, width=1280, height=720, video=span, audio=span, loudness=(-20.0,) * 6000)
    requests = objective.views.plan(film, rng_for(0, Purpose.EVALUATE, "shape")).requests
    frames = {role: r for role, r in requests.items() if role in objective.roles and isinstance(r, Frames)}
    waves = {role: r for role, r in requests.items() if role in objective.roles and isinstance(r, Wave)}
    if not frames or not waves:
        raise InputError(f"objective {name} cuts {', '.join(requests)}, localization needs pictures and sound")
    (video, pictures), (audio, wave) = next(iter(frames.items())), next(iter(waves.items()))
    size = pictures.size if isinstance(pictures.size, tuple) else (pictures.size, pictures.size)
    times = pictures.times
    spacing = (times[-1] - times[0]) / (len(times) - 1) if len(times) > 1 else 0.0
    return CutShape(video, audio, size, len(times), spacing, wave.seconds, wave.rate)


def _rows(features: Features, start: int, stop: int) -> Features:
    return features.each(lambda part: part[start:stop])
