"""What `torchrun` starts in test_parallel.py: several small trainings on this rank's share of the rows; no test itself."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import torch

from mmssl.training.errors import RunError
from mmssl.training.parallel import join_ranks, leave_ranks
from mmssl.training.trainer import Trainer
from tests.fakes import FakeLoader, fake_config, fake_model
from tests.test_trainer import Crash, TroubledLoader

CASES = {
    "plain": {},
    "accumulate": {"accumulate": 2},
    "batch_norm": {"norm": "batch"},
    "uncertainty": {"weighting": "uncertainty"},
    "gradients": {"gradients_every": 2, "accumulate": 2, "weighting": "uncertainty"},
}
WHOLE = ("gradients",)  # cases that FSDP2 refuses


def train(
    out: Path, loader: FakeLoader, parallel: str, *, norm: str = "layer", resume: bool = False, **values: object
) -> Trainer:
    config = fake_config(parallel=parallel, **values)
    trainer = Trainer(
        fake_model(dropout=0.0, norm=norm, weighting=config.weighting),
        loader,
        config=config,
        out=out,
        seed=3,
        identity={"steps": config.steps},
        evaluation=FakeLoader(seed=1, rank=loader.rank, world=loader.world),
        display=False,
    )
    trainer.fit(resume=resume)
    return trainer


def main(out: Path) -> None:
    warnings.simplefilter("error")
    ranks = join_ranks("ddp", "cpu")
    place = {"rank": ranks.rank, "world": ranks.world}
    for parallel in ("ddp", "fsdp"):
        folder = out / parallel
        folder.mkdir(exist_ok=True)
        for name, case in CASES.items():
            if parallel == "fsdp" and name in WHOLE:
                continue
            loader = FakeLoader(accumulate=case.get("accumulate", 1), **place)  # type: ignore[arg-type]
            trainer = train(folder / name, loader, parallel, **case)  # type: ignore[arg-type]
            if parallel == "ddp":  # replicas, batch norms and queues must be equal on all ranks
                torch.save(trainer.model.state_dict(), folder / f"{name}.{ranks.rank}.pt")
        interrupted(folder / "resumed", parallel, place)
        poisoned(folder / "poisoned", parallel, place)
        full_disk(folder / "full", parallel, place)
    leave_ranks()


def interrupted(out: Path, parallel: str, place: dict[str, int]) -> None:
    try:
        train(out, TroubledLoader(at=8, **place), parallel)  # type: ignore[arg-type]
    except Crash:
        train(out, FakeLoader(**place), parallel, resume=True)  # type: ignore[arg-type]


def poisoned(out: Path, parallel: str, place: dict[str, int]) -> None:
    # Row 0 is rank 0's: the other rank must skip the same step although its own rows are sound.
    class OneBadRank(FakeLoader):
        def micro(self, step: int, place: int) -> dict[str, dict[str, torch.Tensor]]:
            micro = super().micro(step, place)
            if step == 4 and self.rank == 0:
                for values in micro.values():
                    values["audio"] = values["audio"] * float("inf")
            return micro

    trainer = train(out, OneBadRank(names=("regression", "nce"), **place), parallel)  # type: ignore[arg-type]
    (out / f"skipped.{place['rank']}").write_text(str(trainer._nonfinite.total))


def full_disk(out: Path, parallel: str, place: dict[str, int]) -> None:
    if place["rank"] == 0:
        out.mkdir(exist_ok=True)
        (out / "ckpt").write_text("a file where the folder should be: nothing can be written")
    try:
        train(out, FakeLoader(**place), parallel)
    except RunError as error:
        out.with_name(f"full.error.{place['rank']}").write_text(str(error))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
