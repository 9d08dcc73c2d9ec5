"""A run: from a resolved config to streams, model and trainer; and from a run folder back to its model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from mmssl.config import RunConfig, StreamConfig, identity, load_config, short_name
from mmssl.data.holdout import split_holdout
from mmssl.data.index import open_corpus
from mmssl.data.loader import Loader, default_workers
from mmssl.data.manifest import Manifest
from mmssl.data.stream import Stream
from mmssl.encoders.base import Encoder
from mmssl.exported import is_exported, read_exported
from mmssl.files import write_aside
from mmssl.objectives.base import Objective
from mmssl.training.checkpoint import EMA, checkpoints, find_checkpoint
from mmssl.training.ema import Ema
from mmssl.training.model import Pretraining
from mmssl.training.parallel import Ranks, from_first, join_ranks, leave_ranks
from mmssl.training.state import load_ema, load_model, model_tensors
from mmssl.training.trainer import Trainer
from mmssl.types import InputError, Views

CONFIG_FILE, MANIFEST_FILE, DATA_FILE = "config.yaml", "manifest.sha256", "data.json"
EVALUATION_STREAM = 1000  # evaluation streams count from here, so that their addresses are their own


@dataclass(slots=True)
class Corpus:
    """One stream's sources, parted."""

    train: Manifest
    held_out: Manifest | None
    whole: Manifest


@dataclass(slots=True)
class Run:
    """A trained (or half-trained) run, in memory and in eval mode."""

    path: Path
    config: RunConfig
    step: int
    encoders: dict[str, Encoder]
    objectives: dict[str, Objective]


def start_run(config: RunConfig, out: Path | str, *, resume: bool = False, display: bool = True) -> Path:
    """Train `config` into folder `out`; returns the newest checkpoint.

    Raises:
        InputError: the folder holds a run already and `resume` is off, or it is on and config or data have changed.
    """
    out = Path(out)
    holds_run = (out / CONFIG_FILE).is_file() or (out / "ckpt").is_dir()
    if holds_run and not resume:
        raise InputError(f"{out} holds a run already; add --resume to go on with it, or choose another --out")
    if resume and not holds_run:
        raise InputError(f"{out} holds no run to resume; leave --resume away, or give the folder of the run")
    ranks = join_ranks(config.train.parallel, config.train.device)
    try:
        return _train(config, out, ranks, resume=resume, display=display)
    finally:
        leave_ranks()


def _train(config: RunConfig, out: Path, ranks: Ranks, *, resume: bool, display: bool) -> Path:
    encoders = config.build_encoders()
    objectives = config.build_objectives(encoders)
    corpora = _open_together(config, objectives, ranks)
    streams = build_streams(config, objectives, corpora)
    loader = build_loader(config, streams, ranks)
    held_out = build_streams(config, objectives, corpora, held_out=True)
    evaluation = build_loader(config, held_out, ranks) if held_out else None
    if ranks.first:
        if display:
            show_streams(streams, config)
        if not resume:
            _write_run(out, config, corpora, streams)
    trainer = Trainer(
        Pretraining(encoders, objectives, config.weights, weighting=config.train.weighting),
        loader,
        config=config.train,
        out=out,
        seed=config.seed,
        identity={"config": identity(config), "data": _shas(corpora)},
        evaluation=evaluation,
        display=display,
    )
    try:
        return trainer.fit(resume=resume)
    finally:
        loader.close()
        if evaluation is not None:
            evaluation.close()


def _open_together(config: RunConfig, objectives: Mapping[str, Objective], ranks: Ranks) -> list[Corpus]:
    """`open_corpora` on all ranks: the first indexes what is new, the others then find the manifest made, or hear why there is none."""
    if ranks.first:
        try:
            corpora = open_corpora(config, objectives)
        except InputError as error:
            from_first(str(error), ranks)
            raise
        from_first(None, ranks)
        return corpora
    problem = from_first(None, ranks)
    if problem is not None:
        raise InputError(problem)
    return open_corpora(config, objectives)


def open_corpora(config: RunConfig, objectives: Mapping[str, Objective]) -> list[Corpus]:
    """Open (indexing where needed) and part the data of each stream. Motion is measured where views of the stream ask for it."""
    corpora: list[Corpus] = []
    for stream in config.streams:
        motion = any(views.needs_motion for views in _views_of(stream, objectives).values())
        manifest = open_corpus(Path(stream.data), motion=motion, kind=stream.kind)
        if not len(manifest):
            raise InputError(f"{stream.data} holds no usable file; `mmssl index {stream.data}` tells why")
        _, held = split_holdout(manifest.ids, stream.holdout, by=stream.holdout_by, seed=config.seed)
        mask = np.zeros(len(manifest), dtype=bool)
        mask[held] = True
        corpora.append(Corpus(manifest.select(~mask), manifest.select(mask) if held else None, manifest))
    return corpora


def corpora_of(run: Run) -> list[Corpus]:
    """The corpora of a run as it was trained.

    Raises:
        InputError: the data have changed since: parted anew, clips that were trained on could count as held out; or the run is an
            exported model, which has none.
    """
    if not (run.path / MANIFEST_FILE).is_file():
        raise InputError(
            f"{run.path} does not tell what it was trained on (it has no {MANIFEST_FILE}: an exported model leaves its data behind); "
            f"give the folder of the run that it came from"
        )
    corpora = open_corpora(run.config, run.objectives)
    recorded = (run.path / MANIFEST_FILE).read_text(encoding="utf-8")
    if recorded != _manifest_lines(corpora):
        raise InputError(
            f"the data of {run.path} has changed since it was trained, so what was held out is no longer known; "
            f"name a folder of other clips to evaluate on, or train again"
        )
    return corpora


def build_streams(
    config: RunConfig, objectives: Mapping[str, Objective], corpora: list[Corpus], *, held_out: bool = False
) -> list[Stream]:
    """The training streams, or those of the held-out sources (streams without any usable held-out source are left out)."""
    streams: list[Stream] = []
    for number, (settings, corpus) in enumerate(zip(config.streams, corpora, strict=True)):
        views = _views_of(settings, objectives)
        if not held_out:
            streams.append(_stream(settings, corpus.train, views, config.seed, number, settings.min_usable))
        elif corpus.held_out is not None and any(
            _accepts(views, corpus.held_out, place) for place in range(len(corpus.held_out))
        ):
            streams.append(_stream(settings, corpus.held_out, views, config.seed, EVALUATION_STREAM + number, 0.0))
    return streams


def build_loader(config: RunConfig, streams: list[Stream], ranks: Ranks) -> Loader:
    """A loader for this rank, with as many workers as the config asks for."""
    train = config.train
    workers = default_workers(ranks.local_world) if train.workers < 0 else train.workers
    return Loader(
        streams,
        accumulate=train.accumulate,
        rank=ranks.rank,
        world=ranks.world,
        workers=workers,
        max_replaced=max(stream.max_replaced for stream in config.streams),
        pin=ranks.device.type == "cuda",
    )


def load_run(run: Path | str, *, step: int | None = None, device: str = "cpu") -> Run:
    """The model of a run folder, in eval mode, with averaged weights where the run keeps them; or that of an exported folder.

    Args:
        run: the folder that `mmssl train` or `mmssl export` wrote.
        step: of the checkpoint; None takes the newest.
        device: where to put it.

    Raises:
        InputError: the folder holds no run or no such checkpoint, or the weights do not fit.
    """
    run = Path(run)
    if is_exported(run):
        return _load_exported(run, step, device)
    if not (run / CONFIG_FILE).is_file():
        raise InputError(
            f"{run} is no run folder: it has no {CONFIG_FILE}; give the --out folder of `mmssl train` or `mmssl demo`"
        )
    config = load_config(run / CONFIG_FILE)
    encoders = config.build_encoders()
    model = Pretraining(encoders, config.build_objectives(encoders), config.weights, weighting=config.train.weighting)
    checkpoint = find_checkpoint(run / "ckpt", step)
    load_model(checkpoint, model)
    if (checkpoint / EMA).is_file():
        averages = Ema(model)
        load_ema(checkpoint, averages)
        model.load_state_dict(model_tensors(model, averages))
    model.eval().to(device)
    return Run(run, config, int(checkpoint.name), dict(model.encoders.items()), dict(model.objectives.items()))  # type: ignore[arg-type]  # to the checker a ModuleDict holds plain modules


def _load_exported(folder: Path, step: int | None, device: str) -> Run:
    found = read_exported(folder)
    if step not in (None, found.step):
        raise InputError(f"{folder} was exported from step {found.step}, it has no step {step}; leave --step out")
    for module in (*found.encoders.values(), *found.objectives.values()):
        module.to(device)
    return Run(folder, found.config, found.step, found.encoders, found.objectives)


def checkpoint_step(run: Path) -> int | None:
    """The step of the newest checkpoint; None where there is none yet."""
    found = checkpoints(run / "ckpt")
    return int(found[-1].name) if found else None


def view_batch(config: RunConfig, out: Path, *, step: int, rows: int) -> Path:
    """Draw the rows of one training step; see `mmssl view`."""
    from mmssl.rng import seed_step
    from mmssl.viewing import batch_sheet

    encoders = config.build_encoders()
    objectives = config.build_objectives(encoders)
    streams = build_streams(config, objectives, open_corpora(config, objectives))
    show_streams(streams, config)
    loader = Loader(streams, accumulate=config.train.accumulate)
    seed_step(config.seed, step, 0, 0)
    augments = {
        name: {"video": getattr(objective, "frame_augment", None), "audio": getattr(objective, "wave_augment", None)}
        for name, objective in objectives.items()
    }
    return batch_sheet(next(loader.steps(step, step + 1)), streams, out, rows=rows, augments=augments)


def show_streams(streams: list[Stream], config: RunConfig) -> None:
    """Say what each stream trains on and what it leaves out, and why."""
    table = Table(title="Data", title_justify="left")
    for column in ("stream", "data", "sources", "usable", "left out, by objective and reason"):
        table.add_column(column, overflow="fold")
    for stream, settings in zip(streams, config.streams, strict=True):
        why = [
            f"{name}: {', '.join(f'{reason} {count}' for reason, count in reasons.most_common())}"
            for name, reasons in stream.rejected.items()
            if reasons
        ]
        table.add_row(str(stream.index), settings.data, str(len(stream.sources)), str(stream.usable), "\n".join(why) or "none")
    Console(stderr=True).print(table)


def _views_of(settings: StreamConfig, objectives: Mapping[str, Objective]) -> dict[str, Views]:
    names = [short_name(item["name"]) for item in settings.objectives]
    return {name: objectives[name].views for name in names}


def _accepts(views: Mapping[str, Views], manifest: Manifest, place: int) -> bool:
    return all(view.reject(manifest[place]) is None for view in views.values())


def _stream(
    settings: StreamConfig, sources: Manifest, views: Mapping[str, Views], seed: int, index: int, min_usable: float
) -> Stream:
    return Stream(
        sources,
        views,
        seed=seed,
        index=index,
        batch=settings.batch,
        views_per_open=settings.views_per_open,
        backend=settings.backend,
        min_usable=min_usable,
    )


def _shas(corpora: list[Corpus]) -> dict[str, str]:
    return {f"stream {number}": corpus.whole.sha256 for number, corpus in enumerate(corpora)}


def _manifest_lines(corpora: list[Corpus]) -> str:
    return "".join(f"{sha}  {name}\n" for name, sha in _shas(corpora).items())


def _write_run(out: Path, config: RunConfig, corpora: list[Corpus], streams: list[Stream]) -> None:
    write_aside(out / MANIFEST_FILE, _manifest_lines(corpora).encode())
    write_aside(out / DATA_FILE, json.dumps(_data_summary(corpora, streams), indent=2).encode())
    write_aside(out / CONFIG_FILE, config.dump().encode())


def _data_summary(corpora: list[Corpus], streams: list[Stream]) -> dict[str, Any]:
    """What the report tells of the data, by stream."""
    return {
        f"stream {stream.index}": {
            "sources": len(corpus.whole),
            "index_rejected": dict(corpus.whole.reasons),
            "held_out": len(corpus.held_out) if corpus.held_out is not None else 0,
            "held_out_ids_sha256": hashlib.sha256("\n".join(corpus.held_out.ids if corpus.held_out else []).encode()).hexdigest(),
            "train": len(corpus.train),
            "usable": stream.usable,
            "rejected": {name: dict(reasons) for name, reasons in stream.rejected.items()},
        }
        for corpus, stream in zip(corpora, streams, strict=True)
    }
