"""A trained model by the name of its folder, or by its name on the Hugging Face hub."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from mmssl.encoders.base import CONFIG_FILE, Encoder
from mmssl.exported import is_exported
from mmssl.hub import pull
from mmssl.objectives.base import Embeds, Objective
from mmssl.run import load_run
from mmssl.types import InputError

ROLES = {"frame": "video"}  # what an encoder that was saved alone is called, where that is not its modality
REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True, slots=True)
class Pretrained:
    """Encoders by role ("video", "audio", "text", "flow") and the objectives that they were trained with, in eval mode.

    `model["video"]` is an `Encoder`: uint8 (N, T, 3, H, W), a waveform (N, samples) or token ids (N, L) in, `Features` out.
    """

    path: Path
    encoders: dict[str, Encoder]
    objectives: dict[str, Objective]
    step: int | None  # of the checkpoint; None for an encoder that was saved alone

    def __getitem__(self, role: str) -> Encoder:
        """The encoder of a role. Raises `InputError` where there is none."""
        if role not in self.encoders:
            raise InputError(f"{self.path} has no encoder {role!r}; it has {', '.join(self.encoders)}")
        return self.encoders[role]

    def spaces(self, role: str) -> list[str]:
        """The objectives that embed what `role` encodes into a space shared with another role."""
        return [name for name, objective in self.objectives.items() if role in objective.roles and isinstance(objective, Embeds)]

    @torch.inference_mode()
    def embed(self, role: str, x: Tensor, *, objective: str | None = None) -> Tensor:
        """Unit-length embeddings (N, D) of a batch of inputs, comparable by their dot product with those of the other role.

        Args:
            role: of the encoder that `x` is for.
            x: as the encoder takes it, on its device.
            objective: whose space; None: the first that has one.

        Raises:
            InputError: no encoder of that role, or no such space.
        """
        encoder, able = self[role], self.spaces(role)
        name = objective or (able[0] if able else "none")
        if name not in able:
            raise InputError(
                f"objective {name} of {self.path} embeds no {role} into a joint space; these do: {', '.join(able) or 'none'}"
            )
        chosen = self.objectives[name]
        assert isinstance(chosen, Embeds)
        return chosen.embed(role, encoder(x))


def from_pretrained(name: Path | str, *, revision: str | None = None, device: str = "cpu") -> Pretrained:
    """A trained model, ready to use.

    Args:
        name: an exported folder, a run folder (its newest checkpoint), a folder that `Encoder.save_pretrained` wrote, or, where there is
            no such folder, a name on the hub ("someone/something"), which is fetched (`mmssl.hub.pull`).
        revision: branch, tag or commit on the hub.
        device: where to put it.

    Raises:
        InputError: there is no such model, it is damaged, or it is on the hub and cannot be fetched.
    """
    folder = Path(name).expanduser()
    if not folder.exists():
        if not REPOSITORY.fullmatch(str(name)):
            raise InputError(
                f"there is no folder {name}; give an exported folder, a run, or a name on the hub such as someone/something"
            )
        folder = pull(str(name), revision=revision)
    elif revision is not None:
        raise InputError(f"{name} is a folder here, so revision {revision!r} says nothing; leave it out")
    if not is_exported(folder) and _is_encoder(folder):
        encoder = Encoder.from_pretrained(folder).eval().to(device)
        return Pretrained(folder, {ROLES.get(encoder.modality, encoder.modality): encoder}, {}, None)
    run = load_run(folder, device=device)
    return Pretrained(folder, run.encoders, run.objectives, run.step)


def _is_encoder(folder: Path) -> bool:
    try:
        return "encoder" in json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError):
        return False
