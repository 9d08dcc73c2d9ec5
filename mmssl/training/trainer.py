"""One loop, one clock (`step`), one checkpoint.

Everything a step does follows from (seed, step, micro, rank) and the state in the checkpoint, so a resumed run equals an
uninterrupted one bit for bit (on the same machine, with the same number of ranks).
"""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from mmssl.nn.gather import gather_rows
from mmssl.nn.short_conv3d import guard_short_conv3d
from mmssl.objectives.base import Batch
from mmssl.rng import Purpose, seed_for, seed_step
from mmssl.training import parallel
from mmssl.training.checkpoint import checkpoint_path, checkpoints, clean, read_state, write_checkpoint
from mmssl.training.conflict import gradient_figures
from mmssl.training.display import Display
from mmssl.training.ema import Ema
from mmssl.training.errors import Interrupted, RunError
from mmssl.training.evaluate import Evaluation
from mmssl.training.health import Health
from mmssl.training.identity import check_same_run
from mmssl.training.log import RunLog
from mmssl.training.meter import Meter
from mmssl.training.model import Pretraining, blocks_of, conv_channels_last, to_device
from mmssl.training.nonfinite import NonFinite
from mmssl.training.optim import clip_gradients, gradient_norm, make_optimizer, parameter_groups, set_lr, step_where
from mmssl.training.pace import Pace
from mmssl.training.schedule import ema_decay, learning_rate
from mmssl.training.settings import TrainConfig
from mmssl.training.signals import StopSignal
from mmssl.training.state import Export, load_ema, load_model, load_optimizer, model_tensors, run_tensors
from mmssl.training.stepping import Batches, Step, autocast, loss_metrics, rows_in
from mmssl.types import InputError


class Trainer:
    """Trains a model into a run folder; the same under `python` and `torchrun`.

    Args:
        model: built, on the CPU, with the same initial weights on every rank.
        loader: the training batches of this rank.
        config: the `train:` part of the config.
        out: the run folder; it receives metrics.jsonl, tb/, ckpt/ and, at the end, encoders/<role>/.
        seed: of the run.
        identity: JSON values that say which run this is (resolved config, sha256 of each manifest); saved, and compared on resume.
        evaluation: held-out batches of this rank, or None.
        display: show progress on stderr (the first rank only).
        console: where to show it instead.
    """

    def __init__(
        self,
        model: Pretraining,
        loader: Batches,
        *,
        config: TrainConfig,
        out: Path,
        seed: int,
        identity: Mapping[str, Any],
        evaluation: Batches | None = None,
        display: bool = True,
        console: Console | None = None,
    ) -> None:
        self.model, self.loader, self.config, self.out, self.seed, self.identity = model, loader, config, out, seed, identity
        self.ranks = parallel.join_ranks(config.parallel, config.device)
        shown = (console or Console(stderr=True)) if display and self.ranks.first else None
        self._display = Display(config.steps, shown)
        self._evaluation = (
            Evaluation(evaluation, rows=config.eval_rows, seed=seed, ranks=self.ranks, dtype=config.dtype)
            if evaluation and config.eval_rows > 0
            else None
        )
        self._export = Export(model.encoders)
        self._meter, self._pace = Meter(self.ranks.device), Pace(self.ranks.device)
        self._replaced = 0

    def fit(self, *, resume: bool = False) -> Path:
        """Train to the last step; returns the last checkpoint.

        Args:
            resume: go on from the newest checkpoint in the run folder, or begin where there is none.

        Raises:
            InputError: the folder holds another run, or a checkpoint that cannot serve.
            RunError: the run went wrong (non-finite steps in a row, a full disk); older checkpoints are whole.
            Interrupted: SIGTERM or Ctrl-C came; the step was finished and saved.
        """
        begin = self._prepare(resume)
        steps, every = self.config.steps, self.config
        log = RunLog(self.out, step=begin, wandb=every.wandb) if self.ranks.first else None
        health: Health | None = None
        batches = self.loader.steps(begin, steps)
        self._pace.restart()
        try:
            with StopSignal() as stop, self._display:
                for step in range(begin, steps):
                    asked = time.perf_counter()
                    batch = next(batches)
                    waited = time.perf_counter() - asked
                    self.train_step(step, batch)
                    done, last = step + 1, step + 1 == steps
                    rows = sum(rows_in(micro) for micro in batch.micro) * self.ranks.world
                    self._pace.count(rows, waited)
                    if done % every.log_every == 0 or last:
                        health = health or Health(steps=steps, rows=rows)
                        self._log(done, log, health)
                    stopping = parallel.on_any_rank(stop.asked, self.ranks) and not last
                    with self._pace.paused():
                        if last or (every.eval_every and done % every.eval_every == 0):
                            self._evaluate(done, log)
                        if last or stopping or done % every.save_every == 0:
                            self.save(done, log)
                    if stopping:
                        raise Interrupted(done, steps, self._checkpoint(done))
        finally:
            if log is not None:
                log.close()
        self._write_encoders()
        return checkpoints(self.out / "ckpt")[-1]

    def train_step(self, step: int, batch: Step) -> None:
        """One optimizer step; `step` counts from 0. Never waits for the device."""
        reports: list[dict[str, Tensor]] = []
        losses: list[dict[str, Tensor]] = []
        carries: dict[str, list[dict[str, Tensor]]] = {name: [] for name in self.model.objectives}
        figures: dict[str, Tensor] = {}
        self._nonfinite.hold()
        for place, micro in enumerate(batch.micro):
            seed_step(self.seed, step, place, self.ranks.rank)
            parallel.gradients_between_ranks(self._module, place == len(batch.micro) - 1)
            with autocast(self.ranks.device, self.config.dtype):
                total, parts = self._module(to_device(micro, self.ranks.device))
            if place == 0 and self.config.gradients_every and (step + 1) % self.config.gradients_every == 0:
                figures = gradient_figures(self.model, parts, self.ranks)
            (total / len(batch.micro)).backward()
            reports.append(loss_metrics(total, parts))
            losses.append({name: loss.value.detach() for name, loss in parts.items()})
            for name, loss in parts.items():
                carries[name].append({key: gather_rows(rows) for key, rows in loss.carry.items()})
        norm = gradient_norm(self._optimizer)
        ok = self._nonfinite.judge(norm, losses, self.ranks)
        if self.config.clip:
            clip_gradients(self._optimizer, norm, self.config.clip)
        set_lr(self._optimizer, self._learning_rate(step))
        step_where(self._optimizer, ok)
        self._optimizer.zero_grad(set_to_none=True)
        parallel.level_buffers(self.model, self.ranks)
        self._after_step(carries, step + 1)
        self._nonfinite.settle(ok)
        if self._ema is not None:
            self._ema.follow(ema_decay(step, decay=self.config.ema))
        self._meter.add([{**report, **figures, "grad_norm": norm} for report in reports], ok)
        self._replaced += len(batch.replaced)

    def save(self, step: int, log: RunLog | None = None) -> Path:
        """Write the checkpoint of `step` (optimizer steps taken). Every rank must call. Raises `RunError` on a full disk."""
        tensors = run_tensors(self.model, self._optimizer, self._ema)
        own = {"window": self._meter.state(), "replaced": self._replaced}
        state = {
            "world": self.ranks.world,
            "torch": torch.__version__,
            "nonfinite": self._nonfinite.state(),
            "ranks": parallel.gather_values(own, self.ranks),
            "identity": dict(self.identity),
        }
        root = self.out / "ckpt"
        problem = None
        if self.ranks.first:
            try:
                if log is not None:
                    log.sync()
                write_checkpoint(root, step, tensors, state, keep=self.config.keep)
            except (RunError, OSError) as error:  # told to all ranks: they would wait for this one for ever
                problem = str(error)
        problem = parallel.from_first(problem, self.ranks)
        if problem is not None:
            raise RunError(problem)
        return self._checkpoint(step)

    def _prepare(self, resume: bool) -> int:
        """Build -> fit -> load -> compile -> shard -> optimizer. Returns the step to begin with."""
        checkpoint = self._find(resume)
        state = read_state(checkpoint) if checkpoint is not None else None
        if state is not None:
            self._check(state)
        self.model.to(self.ranks.device).train()
        if self.config.channels_last and not (
            self.config.parallel == "fsdp" and self.ranks.world > 1
        ):  # FSDP2 takes no such weights
            conv_channels_last(self.model)
        if self.config.dtype == "bfloat16" and self.ranks.device.type == "cpu":
            guard_short_conv3d(self.model)
        if checkpoint is not None:
            load_model(checkpoint, self.model)
        else:
            self._fit_objectives()
        parallel.synchronise_batch_norm(self.model, self.ranks)
        if self.config.compile:
            for encoder in self.model.encoders.values():
                for block in blocks_of(encoder):
                    block.compile()
        self._module = parallel.wrap(self.model, self.config.parallel, self.ranks)
        groups = parameter_groups(self.model, weight_decay=self.config.weight_decay, lr_scale=self.config.lr_scale)
        self._optimizer = make_optimizer(self.config.optimizer, groups, betas=self.config.betas)
        self._ema = Ema(self.model) if self.config.ema else None
        self._nonfinite = NonFinite(self.model, self.ranks.device)
        if checkpoint is None or state is None:
            return 0
        load_optimizer(checkpoint, self._optimizer)
        if self._ema is not None:
            load_ema(checkpoint, self._ema)
        self._nonfinite.load(state["nonfinite"])
        own = state["ranks"][self.ranks.rank if state["world"] == self.ranks.world else 0]
        self._meter.load(own["window"])
        self._replaced = own["replaced"]
        self._display.say(f"going on from step {state['step']} of {self.config.steps} ({checkpoint})")
        return int(state["step"])

    def _checkpoint(self, step: int) -> Path:
        return checkpoint_path(self.out / "ckpt", step)

    def _find(self, resume: bool) -> Path | None:
        root = self.out / "ckpt"
        if self.ranks.first:
            clean(root)
        parallel.from_first(None, self.ranks)
        found = checkpoints(root)
        if found and not resume:
            raise InputError(
                f"{self.out} already holds a run (up to step {int(found[-1].name)}); add --resume to go on, or give another --out"
            )
        if resume and not found:
            self._display.say(f"{root} holds no checkpoint yet: beginning at step 0")
        return found[-1] if found else None

    def _check(self, state: Mapping[str, Any]) -> None:
        check_same_run(state["identity"], self.identity)
        if state["world"] != self.ranks.world:
            self._display.warn(
                f"the checkpoint was written by {state['world']} processes and {self.ranks.world} go on: the rows are the same, "
                f"but sums are rounded otherwise, so the run is no longer equal bit for bit"
            )
        if state["torch"] != torch.__version__:
            self._display.warn(
                f"the checkpoint was written with torch {state['torch']}, this is {torch.__version__}: results may differ in the last bits"
            )

    def _fit_objectives(self) -> None:
        for place, (name, objective) in enumerate(self.model.objectives.items()):
            torch.manual_seed(seed_for(self.seed, Purpose.INIT, 2, place))
            batches = self._batches_of(name)
            objective.fit(batches)  # type: ignore[operator]  # to the checker a ModuleDict holds plain modules
            batches.close()
        parallel.copy_from_first(self.model, self.ranks)  # each rank fitted its own rows

    def _batches_of(self, name: str) -> Generator[Batch, None, None]:
        batches = self.loader.steps(0, self.config.steps)
        for batch in batches:
            for micro in batch.micro:
                yield to_device(micro, self.ranks.device)[name]

    @torch.no_grad()
    def _after_step(self, carries: Mapping[str, list[dict[str, Tensor]]], step: int) -> None:
        for name, objective in self.model.objectives.items():
            micro = carries[name]
            carry = {
                key: torch.cat([part[key] for part in micro]) if len(micro) > 1 else value for key, value in micro[0].items()
            }
            objective.after_step(carry, step)  # type: ignore[operator]  # to the checker a ModuleDict holds plain modules

    def _learning_rate(self, step: int) -> float:
        c = self.config
        return learning_rate(step, peak=c.lr, warmup=c.warmup, total=c.steps, final=c.final_lr)

    def _log(self, done: int, log: RunLog | None, health: Health) -> None:
        replaced = parallel.mean_over_ranks(torch.tensor(float(self._replaced)), self.ranks) * self.ranks.world
        values = self._meter.take(self.ranks)
        skipped = self._nonfinite.total
        values |= {
            "lr": self._learning_rate(done - 1),
            "skipped": float(skipped),
            "replaced": float(replaced),
            **self._pace.read(),
        }
        if log is not None:
            log.write(done, values)
        self._display.show(done, values)
        for warning in health.observe(done, values):
            self._display.warn(warning)
        self._nonfinite.check(done, self.config.max_nonfinite)

    def _evaluate(self, done: int, log: RunLog | None) -> None:
        if self._evaluation is None:
            return
        values = self._evaluation.run(self.model, self._ema)
        if log is not None:
            log.write(done, values)
        self._display.show(done, values)

    def _write_encoders(self) -> None:
        state = model_tensors(self.model, self._ema)
        if self.ranks.first:
            self._export.write(self.out / "encoders", state)
