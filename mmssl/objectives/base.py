"""The contract of an objective: views that cut a source, a loss on the dense batch of cuts, memory that moves after the step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import ClassVar, NamedTuple, Protocol, runtime_checkable

from torch import Tensor, nn

from mmssl.components import find_component
from mmssl.encoders.bank import EncoderBank
from mmssl.encoders.base import Encoder
from mmssl.types import Features, Loss, Modality, Views

Batch = Mapping[str, Tensor]  # one objective's own: answers to its plan's requests (N, ...), its labels (N,), "source" (N,) int64


class Objective(nn.Module, ABC):
    """Abstract objective; concrete classes are final.

    `__init__` takes keyword arguments only: plain values, nested frozen dataclasses (views, augmentations), and one injected
    argument `encoders: Mapping[str, Encoder]`, from which it reads widths (`.dim`) and input sizes (`.spec`) but which it must
    not keep. All state is a parameter or a persistent buffer. The step number is the only clock.
    """

    roles: ClassVar[Mapping[str, tuple[Modality, ...]]]  # role -> the modalities that it accepts
    views: Views

    @abstractmethod
    def forward(self, batch: Batch, bank: EncoderBank) -> Loss:
        """The loss of one batch. Pure: it changes no buffer, it may draw from torch's (seeded) generator.

        Rows with equal `batch["source"]` show the same file and must never serve as each other's negatives, unless that is the
        objective's point. In eval mode it augments nothing.
        """

    def fit(self, batches: Iterator[Batch]) -> None:
        """Once, before step 0: put what the data decide (a palette, say) into buffers. Default: nothing."""
        del batches

    def after_step(self, carry: Mapping[str, Tensor], step: int) -> None:
        """After the optimizer stepped: move queues and the like. `carry` holds the rows of all ranks in global row order."""
        del carry, step


class Judged(NamedTuple):
    """How one question went, row by row."""

    values: Tensor  # (n,) or (n, k): outcomes in 0..1, or any figure whose mean over rows is meant
    chance: float | None = None  # the mean that knowing nothing gives; None where there is none to state


@runtime_checkable
class Judges(Protocol):
    """An objective whose answers can be told right from wrong row by row: what `mmssl evaluate` measures on held-out sources."""

    def judge(self, batch: Batch, bank: EncoderBank) -> Mapping[str, Judged]:
        """Questions by name ("accuracy" for the main one), answered for one batch in eval mode."""
        ...


@runtime_checkable
class Retrieves(Protocol):
    """An objective with an embedding space shared by two roles, judged by retrieval among all held-out sources."""

    def joint(self, batch: Batch, bank: EncoderBank) -> Mapping[str, Tensor]:
        """Unit-length embeddings (n, D) of two roles; row i of one belongs to row i of the other. Nothing where the form has no such space."""
        ...


@runtime_checkable
class Embeds(Protocol):
    """An objective with an embedding space that two of its roles share: what `mmssl search` stores and compares."""

    def embed(self, role: str, features: Features) -> Tensor:
        """Unit-length joint embeddings (N, D) of the encoder's features for `role`. `InputError` where the form has no such space."""
        ...


@runtime_checkable
class EmbedsCells(Protocol):
    """An objective that may score a picture by its best cell: then the mean of the cells says little of what is in it."""

    def embed_cells(self, features: Features) -> Tensor | None:
        """Unit-length joint embeddings (N, T, H, W, D) of the picture's cells; None where the objective scores pooled pictures."""
        ...


@runtime_checkable
class Localizes(Protocol):
    """An objective with an embedding space shared by picture and sound, usable downstream."""

    def embed(self, role: str, features: Features) -> Tensor:
        """Unit-length joint embeddings (N, D) of the encoder's features for `role`."""
        ...

    def similarity_map(self, video: Features, audio: Features) -> Tensor:
        """Cosine similarity of each picture cell with the paired sound, (N, T, H, W)."""
        ...

    def correspondence(self, video: Features, audio: Features) -> Tensor:
        """A score for each of all N x M pairs (N, M); higher: the sound belongs to the picture."""
        ...


@runtime_checkable
class Tracks(Protocol):
    """An objective whose encoder's cells can be followed from frame to frame: what `mmssl.downstream.follow` uses."""

    def picture(self, frames: Tensor) -> Tensor:
        """What the encoder is to be given of frames (N, T, 3, H, W), uint8: as the objective showed them in training."""
        ...


def objective_class(name: str) -> type[Objective]:
    """The one `Objective` class of module `mmssl.objectives.<name>`, or of `name` itself where it is dotted."""
    return find_component(name, package="mmssl.objectives", contract=Objective)


__all__ = [
    "Batch",
    "Embeds",
    "EmbedsCells",
    "Encoder",
    "Judged",
    "Judges",
    "Localizes",
    "Objective",
    "Retrieves",
    "Tracks",
    "objective_class",
]
