"""What a run's encoders make of windows by themselves: pooled features, of any objective, also of one that joins nothing.

An objective with a joint space cuts its windows as it trained on them. Others cut by drawing (pictures at random distances, clips in some
order), which says nothing of how one window should be cut: there an encoder is given what it was built for, a picture, a clip at its own
rate, a stretch of sound, a sentence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from numpy.typing import NDArray
from torch import Tensor

from mmssl.cuts.pictures import even_times
from mmssl.downstream.probe.clips import FPS, FRAMES, SIZE, cut_of
from mmssl.downstream.spaces import Cut, Embedded, JointSpace, Kind, blank, choose_space, joint_space
from mmssl.encoders.base import Encoder
from mmssl.objectives.base import Objective, Tracks
from mmssl.types import Flow, Frames, InputError, Text, Wave

PICTURE = 0.04  # seconds that a picture stands for


class EncoderSpace(JointSpace):
    """The encoders of an objective without its heads. Vectors are of any length, and of modalities that cannot be compared."""

    gives = "encoder"

    def check(self, kind: Kind) -> Cut:
        """The cut of a modality. Raises `InputError` where the objective has no encoder for it."""
        if kind not in self.cuts:
            raise InputError(f"objective {self.name} has no encoder of {kind}; it has {', '.join(self.cuts)}")
        return self.cuts[kind]

    @torch.inference_mode()
    def embed(self, kind: Kind, windows_N: Tensor, *, cells: int = 0) -> Embedded:
        """Pooled features of N windows of one modality; no cells.

        Raises:
            InputError: features that are not finite.
        """
        del cells
        cut = self.check(kind)
        windows_N = windows_N.to(self.device)
        if kind == "video" and isinstance(self.objective, Tracks):
            windows_N = self.objective.picture(windows_N)  # as the objective showed them in training
        pooled = self.encoders[cut.role](windows_N).pooled.float()
        if not torch.isfinite(pooled).all():
            raise InputError(
                f"the {kind} encoder of {self.name} gives what is not a number; the run has diverged, take an earlier --step"
            )
        return Embedded(pooled.cpu().numpy())

    @property
    def dim(self) -> int:
        """D of the first modality; they may differ."""
        cut = next(iter(self.cuts.values()))
        return self.vectors(cut.kind, blank(cut.shape)).shape[1]

    def vectors(self, kind: Kind, windows_N: Tensor) -> NDArray:
        """The vectors of `embed`, (N, D)."""
        return self.embed(kind, windows_N).vectors


def encoder_space(name: str, objective: Objective, encoders: Mapping[str, Encoder], *, device: str = "cpu") -> EncoderSpace:
    """The encoders of one objective, set up for inference on `device`."""
    place = torch.device(device)
    cuts: Mapping[Kind, Cut]
    try:
        cuts = joint_space(name, objective, encoders, device=device).cuts
    except InputError:  # it has none
        size = getattr(objective.views, "size", None)
        built = [built_cut(role, encoders[role], size if isinstance(size, int) else 0) for role in objective.roles]
        cuts = {cut.kind: cut for cut in built}
    objective.to(place).eval()
    mine = {role: encoders[role].to(place).eval() for role in objective.roles}
    return EncoderSpace(name, objective, mine, cuts, place)


def features_space(
    objectives: Mapping[str, Objective],
    encoders: Mapping[str, Encoder],
    kinds: Sequence[Kind] = (),
    *,
    name: str | None = None,
    space: str = "auto",
    device: str = "cpu",
) -> JointSpace:
    """The space that features of a run are asked in.

    Args:
        objectives: of the run.
        encoders: of the run.
        kinds: modalities that are wanted; none: whatever there is.
        name: of the objective; None: the first that has the modalities.
        space: "joint", "encoder", or "auto": joint where one has the modalities, else encoder.
        device: for the model.

    Raises:
        InputError: no such objective, or none with these modalities.
    """
    if space not in ("auto", "joint", "encoder"):
        raise InputError(f"--space is {space!r}; it is auto, joint or encoder")
    if name is not None and name not in objectives:
        raise InputError(f"the run has no objective {name!r}; it has {', '.join(objectives)}")
    names = [name] if name is not None else list(objectives)
    found: list[JointSpace] = []
    if space != "encoder":
        for key in names:
            try:
                found.append(choose_space({key: objectives[key]}, encoders, device=device))
            except InputError:
                if space == "joint" and len(names) == 1:
                    raise
    if space == "encoder" or (space == "auto" and not any(_has(one, kinds) for one in found)):
        found += [encoder_space(key, objectives[key], encoders, device=device) for key in names]
    fitting = [one for one in found if _has(one, kinds)]
    if not fitting:
        there = "; ".join(f"{one.name}: {', '.join(one.cuts)}" for one in found)
        raise InputError(
            f"no objective of the run has {' and '.join(kinds) or 'a joint space'}{' in one space' if space == 'joint' else ''}"
            f"{f' ({there})' if there else '; ask for --space encoder'}"
        )
    return fitting[0]


def built_cut(role: str, encoder: Encoder, size: int = 0) -> Cut:
    """A window as an encoder was built to take it; `size`: pixels that it was trained on, where it takes any."""
    spec = encoder.spec
    size = spec.size or size or SIZE
    if encoder.modality == "text":
        return Cut("text", role, Text((), spec.tokens, spec.tokenizer), 0.0)
    if encoder.modality == "flow":
        count, fps = spec.frames or FRAMES, spec.fps or FPS
        seconds = count / fps
        return Cut("flow", role, Flow(even_times(-seconds / 2, seconds, count, fps), 1.0 / fps, size), seconds)
    cut = cut_of(encoder)
    if cut.sound:
        return Cut("audio", role, Wave(0.0, cut.seconds, cut.rate), cut.seconds)
    seconds = cut.frames * cut.spacing or PICTURE
    fps = 1.0 / cut.spacing if cut.spacing else 1.0 / seconds
    return Cut("video", role, Frames(even_times(-seconds / 2, seconds, cut.frames, fps), size), seconds)


def _has(space: JointSpace, kinds: Sequence[Kind]) -> bool:
    return all(kind in space.cuts for kind in kinds)
