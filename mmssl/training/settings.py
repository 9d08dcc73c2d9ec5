"""How a run is trained: every number that the trainer reads, with its default, in one place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from mmssl.types import InputError


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """The `train:` part of a config."""

    steps: int  # optimizer steps in the whole run
    optimizer: Literal["adamw", "muon"] = "adamw"  # muon: for weights of linear layers and convolutions, AdamW for the rest
    lr: float = 3e-4  # peak learning rate
    warmup: int = 0  # steps of linear warm-up, part of `steps`; then half a cosine down to `final_lr`
    final_lr: float = 0.0  # as a share of `lr`
    weight_decay: float = 0.05  # on matrices and kernels; never on biases, norms, scalars
    betas: tuple[float, float] = (0.9, 0.95)  # of AdamW's two averages
    clip: float = 1.0  # maximal gradient norm; 0 turns clipping off
    weighting: Literal["fixed", "uncertainty"] = (
        "fixed"  # of losses: by hand, or by learnt variances too (see `model.Pretraining`)
    )
    gradients_every: int = 0  # steps between figures of the objectives' gradients on each encoder; 0: never
    accumulate: int = 1  # micro-batches for each step; contrastive negatives do not grow with it
    lr_scale: Mapping[str, float] = field(default_factory=dict)  # regular expression on parameter names -> factor on lr
    dtype: Literal["float32", "bfloat16"] = "bfloat16"  # of autocast; weights stay float32
    channels_last: bool = True  # the memory layout that convolutions are fastest with; weights that fsdp shards keep their own
    compile: bool = False  # torch.compile encoder blocks
    device: Literal["auto", "cpu", "cuda"] = "auto"  # auto: a GPU where torch sees one
    parallel: Literal["none", "ddp", "fsdp"] = "none"  # how several processes (torchrun) train one model: whole copies, or shards
    ema: float = 0.0  # decay of the averaged weights that evaluation and export use; 0: none
    workers: int = -1  # loader processes for each rank; -1: one for each core that the ranks of this machine share, 0: none
    save_every: int = 1000  # steps between checkpoints
    keep: int = 3  # checkpoints kept
    log_every: int = 10  # steps between log lines
    eval_every: int = 0  # steps between evaluations on held-out rows; 0: at the end only
    eval_rows: int = 512  # held-out rows for each stream and evaluation, rounded up to whole batches; 0: none
    max_nonfinite: int = 10  # steps in a row with a non-finite loss or gradient before the run stops
    wandb: str | None = None  # project name; needs the wandb extra

    def __post_init__(self) -> None:
        if self.optimizer == "muon" and self.parallel == "fsdp":
            raise InputError(
                "train.optimizer is muon, which needs whole matrices, but train.parallel=fsdp shards them; take ddp, or adamw"
            )
        if self.gradients_every and self.parallel == "fsdp":
            raise InputError(
                f"train.gradients_every is {self.gradients_every}, which needs whole gradients, but train.parallel=fsdp shards them; "
                "take ddp, or set gradients_every to 0"
            )
        if self.gradients_every and self.compile:
            raise InputError(
                f"train.gradients_every is {self.gradients_every}, which goes backward several times, but what train.compile makes goes "
                "once; set one of the two off"
            )
