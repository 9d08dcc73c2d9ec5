"""What a trained run is used for, each in one call: evaluated, localizing, giving features, reported.

The commands and the demo stand on these; they join a run folder (config, data, checkpoints) with the tools of `mmssl.downstream`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from mmssl.config import RunConfig
from mmssl.data.index import open_corpus
from mmssl.downstream.encoder_space import features_space
from mmssl.downstream.evaluate import evaluate
from mmssl.downstream.evaluation_file import evaluation_path, read_calibration, read_evaluation, write_evaluation
from mmssl.downstream.examples import gather
from mmssl.downstream.features import Extraction, Question, extract
from mmssl.downstream.judging import judge
from mmssl.downstream.localize import Localization, Options, localize
from mmssl.downstream.pairing import Corresponds, Pairing, choose, pair
from mmssl.downstream.report import Examples, read_data, write_report
from mmssl.downstream.spaces import Kind, check_kind
from mmssl.files import ELSEWHERE, check_file
from mmssl.objectives.base import Judges
from mmssl.run import Run, corpora_of, load_run
from mmssl.training.log import METRICS_FILE, read_metrics
from mmssl.types import InputError, MediaError, Source

if TYPE_CHECKING:  # scikit-learn takes a second to import, and only probes need it
    from mmssl.downstream.probe.probes import Bench, Result
    from mmssl.downstream.probe.protocols import Request, Stream
    from mmssl.encoders.base import Encoder


@dataclass(frozen=True, slots=True)
class Parts:
    """The sources of one stream of a run: trained on, and held out."""

    training: list[Source]
    held_out: list[Source]


def pairings_of(run: Run, *, device: str = "cpu") -> list[Pairing]:
    """The objectives of a run that compare picture and sound, ready for inference."""
    return [
        pair(name, objective, run.encoders, device=device)
        for name, objective in run.objectives.items()
        if isinstance(objective, Corresponds)
    ]


def parts_of(run: Run) -> dict[str, Parts]:
    """Objective -> the sources of its stream.

    Raises:
        InputError: the run's data are gone.
    """
    parts: dict[str, Parts] = {}
    for stream, corpus in zip(run.config.streams, corpora_of(run), strict=True):
        held = [] if corpus.held_out is None else list(corpus.held_out)
        for item in stream.objectives:
            parts[item["name"].rpartition(".")[2]] = Parts(list(corpus.train), held)
    return parts


def evaluate_run(
    run: Path, data: Path | None = None, *, clips: int = 300, step: int | None = None, device: str = "cpu", progress: bool = True
) -> dict[str, Any]:
    """Evaluate a run's objectives and save the figures in the run folder.

    Args:
        run: folder.
        data: evaluate on this folder or manifest instead of what the run held out; saved as evaluation-<name>.json then.
        clips: sources used, at most.
        step: of the checkpoint; None: the newest.
        device: for the model.
        progress: show a bar.

    Returns:
        what was saved: {"step", "data", "objectives": {name: figures}}, see `mmssl.downstream.evaluate`.

    Raises:
        InputError: no objective of the run can be evaluated, or there is nothing held out.
    """
    loaded = load_run(run, step=step, device=device)
    able = [name for name, objective in loaded.objectives.items() if isinstance(objective, Corresponds | Judges)]
    if not able:
        raise InputError(f"no objective of {run} ({', '.join(loaded.objectives)}) can be evaluated on its own")
    place = evaluation_path(run, None if data is None else data.stem)
    check_file(place, "copy the run to a folder of yours")
    parts = parts_of(loaded)
    motion = any(objective.views.needs_motion for objective in loaded.objectives.values())
    other = None if data is None else list(open_corpus(data, motion=motion))
    figures: dict[str, Any] = {}
    columns = (TextColumn("evaluating"), BarColumn(), MofNCompleteColumn(), TextColumn("files"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not progress, transient=True) as bar:
        for stream in loaded.config.streams:  # objectives of one stream share their cuts and the opened files
            names = [name for item in stream.objectives if (name := item["name"].rpartition(".")[2]) in able]
            if not names:
                continue
            part = parts[names[0]]
            if other is None and not part.held_out:
                raise InputError(f"{run} held no sources out (holdout: 0); name data to evaluate on")
            figures |= _stream_figures(loaded, names, part, other or part.held_out, clips=clips, device=device, bar=bar)
    content = {"step": loaded.step, "data": str(data) if data else "held out", "objectives": figures}
    write_evaluation(place, content)
    return content


def _stream_figures(
    run: Run, names: list[str], part: Parts, held_out: list[Source], *, clips: int, device: str, bar: Progress
) -> dict[str, dict[str, Any]]:
    figures: dict[str, dict[str, Any]] = {name: {} for name in names}
    paired = [pairing for pairing in pairings_of(run, device=device) if pairing.name in names]
    judges = {name: objective for name in names if isinstance(objective := run.objectives[name], Judges)}
    if paired:
        task = bar.add_task("files", total=None)
        found = evaluate(
            paired,
            held_out,
            part.training,
            seed=run.config.seed,
            clips=clips,
            on_source=lambda: bar.advance(task),
            on_plan=lambda total: bar.update(task, total=total),
        )
        figures = {name: values | found.get(name, {}) for name, values in figures.items()}
    if judges:
        task = bar.add_task("files", total=None)
        found = judge(
            judges,
            {name: run.objectives[name].views for name in judges},
            run.encoders,
            held_out,
            seed=run.config.seed,
            clips=clips,
            device=device,
            on_source=lambda count: bar.advance(task, count),
            on_plan=lambda total: bar.update(task, total=total),
        )
        figures = {name: values | found.get(name, {}) for name, values in figures.items()}
    return figures


def localize_run(
    run: Path,
    video: Path,
    out: Path,
    *,
    objective: str | None = None,
    fps: float = 10.0,
    smooth: float = 0.0,
    steady: float = 0.5,
    stereo: bool = False,
    sources: int = 0,
    classes: Path | None = None,
    step: int | None = None,
    device: str = "cpu",
    progress: bool = True,
) -> Localization:
    """Write the heatmap film of `video` by a run, or its findings alone; see `mmssl.downstream.localize`.

    Raises:
        InputError: the run has no objective that localizes, the film cannot be read, or an option cannot be.
    """
    options = Options(fps=fps, smooth=smooth, steady=steady, stereo=stereo, sources=sources, classes=classes)
    options.check()
    loaded = load_run(run, step=step, device=device)
    name = choose(loaded.objectives, objective)
    pairing = pair(name, loaded.objectives[name], loaded.encoders, device=device)
    model, scale = f"{run.resolve().name} {name} step {loaded.step}", read_calibration(run, name)
    try:
        return localize(video, out, pairing, calibration=scale, options=options, model=model, progress=progress)
    except MediaError as error:
        raise InputError(f"{video} could not be played: {error}") from error


def features_run(
    run: Path,
    folder: Path,
    out: Path,
    *,
    modalities: tuple[str, ...] = (),
    stride: float = 1.0,
    space: str = "auto",
    half: bool = False,
    objective: str | None = None,
    step: int | None = None,
    device: str = "cpu",
    progress: bool = True,
) -> Extraction:
    """Embed a folder of clips or texts by a run; see `mmssl.downstream.features`.

    Args:
        run: folder.
        folder: of clips or texts, or a manifest.
        out: folder for the parts.
        modalities: of "video", "audio", "text", "flow"; none: all that the objective reads.
        stride: seconds from one window to the next.
        space: "joint", "encoder" or "auto", as in `mmssl.downstream.encoder_space.features_space`.
        half: float16 instead of float32.
        objective: of the run; None: the first that has the modalities.
        step: of the checkpoint; None: the newest.
        device: for the model.
        progress: show a bar on stderr.

    Raises:
        InputError: as `load_run`, `features_space`, `open_corpus` and `extract`.
    """
    loaded = load_run(run, step=step, device=device)
    kinds: list[Kind] = [check_kind(name) for name in modalities]
    chosen = features_space(loaded.objectives, loaded.encoders, kinds, name=objective, space=space, device=device)
    corpus = open_corpus(folder)
    digest = hashlib.sha256(f"{chosen.digest} {corpus.sha256}".encode()).hexdigest()
    question = Question(tuple(kinds or chosen.kinds), stride, half)
    columns = (TextColumn("embedding"), BarColumn(), MofNCompleteColumn(), TextColumn("files"), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not progress, transient=True) as bar:
        task = bar.add_task("files", total=len(corpus))
        return extract(corpus, chosen, out, question, digest=digest, on_source=lambda: bar.advance(task))


def report_run(
    run: Path, out: Path | None = None, *, clips: int = 300, step: int | None = None, device: str = "cpu", progress: bool = True
) -> Path:
    """Write the report of a run, evaluating it first where that has not been done for this checkpoint.

    Raises:
        InputError: the folder holds no run.
    """
    loaded = load_run(run, step=step, device=device)
    page = out or run / "report.html"
    check_file(page, ELSEWHERE)
    pairings = pairings_of(loaded, device=device)
    evaluation = read_evaluation(run)
    parts: dict[str, Parts] = {}
    if pairings:
        parts = parts_of(loaded)
        held_out = all(parts[pairing.name].held_out for pairing in pairings)
        if held_out and (evaluation is None or evaluation.get("step") != loaded.step):
            evaluation = evaluate_run(run, clips=clips, step=step, device=device, progress=progress)
    examples = {
        pairing.name: Examples(
            *gather(pairing, parts[pairing.name].held_out, read_calibration(run, pairing.name), seed=loaded.config.seed)
        )
        for pairing in pairings
    }
    return write_report(
        page,
        title=run.resolve().name,
        step=loaded.step,
        config=loaded.config.dump(),
        metrics=read_metrics(run / METRICS_FILE),
        data=read_data(run),
        evaluation=evaluation,
        examples=examples,
    )


def probe_run(
    run: Path,
    request: Request,
    method: Callable[[Bench], Result],
    *,
    role: str | None = None,
    views: int = 4,
    seed: int = 0,
    out: Path | None = None,
    allow_missing: bool = False,
    step: int | None = None,
    device: str = "cpu",
    progress: bool = True,
) -> dict[str, Any]:
    """Probe an encoder of a run on a labelled set, beside the same encoder with random weights and a hand-made baseline.

    Args:
        run: folder.
        request: the set, see `mmssl.downstream.probe.protocols`.
        method: one of the probes of `mmssl.downstream.probe.probes`, with its own arguments filled in.
        role: which encoder of the run; None: the first of the stream that the set is about.
        views: cuts of each clip.
        seed: of folds, validation parts and trained heads.
        out: JSON file to write; None: probe-METHOD-DATA-ROLE.json in the run.
        allow_missing: be content with a part of the set.
        step: of the checkpoint; None: the newest.
        device: for the model.
        progress: show a bar.

    Returns:
        what was saved, see `mmssl.downstream.probe.outcome`, and "file" and "read_as" beside it.

    Raises:
        InputError: the run, the set or the options do not serve; clips are missing.
    """
    import torch

    from mmssl.downstream.probe.outcome import outcome
    from mmssl.downstream.probe.probes import Bench
    from mmssl.downstream.probe.protocols import open_labelled

    loaded = load_run(run, step=step, device=device)
    streams = _streams_of(loaded.encoders)
    if role is not None and role not in streams:
        raise InputError(f"{run} has no encoder of pictures or sound called {role!r}; it has {', '.join(streams) or 'none'}")
    kinds = set(streams.values())
    known = streams[role] if role else next(iter(kinds)) if len(kinds) == 1 else None
    check_file(out or run / "probe.json", ELSEWHERE)
    labelled, found, stream = open_labelled(request, known)
    chosen = role or next((name for name, kind in streams.items() if kind == stream), None)
    if chosen is None:
        raise InputError(
            f"{run} has no encoder of {'sound' if stream == 'audio' else 'pictures'}, which {labelled.title} is about"
        )
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not progress, transient=True) as bar:
        tasks: dict[str, Any] = {}

        def meter(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total)
            bar.update(tasks[what], completed=done, visible=done < total)

        bench = Bench(
            labelled,
            loaded.encoders[chosen],
            _untrained(loaded, chosen),
            views=views,
            seed=seed,
            device=torch.device(device),
            allow_missing=allow_missing,
            meter=meter,
        )
        result = method(bench)
        bar.add_task("intervals", total=None)
        content = {"run": str(run), "step": loaded.step, "role": chosen, "data": str(request.data), **outcome(result, bench)}
    data = request.data.resolve()
    file = out or run / f"probe-{result.probe}-{data.stem if data.is_file() else data.name}-{chosen}.json"
    write_evaluation(file, content)
    return {**content, "file": str(file), "read_as": found.sentence}


def _streams_of(encoders: Mapping[str, Encoder]) -> dict[str, Stream]:
    kinds = {"frame": "video", "video": "video", "audio": "audio"}
    return {name: cast("Stream", kinds[encoder.modality]) for name, encoder in encoders.items() if encoder.modality in kinds}


def _untrained(run: Run, role: str) -> Encoder:
    """The same encoder with random weights: built from the run's config with another seed, and without weights that were fetched."""
    resolved = run.config.resolved
    encoders = {
        name: {key: None if key == "weights" else value for key, value in values.items()}
        for name, values in resolved["encoders"].items()
    }
    return RunConfig({**resolved, "seed": run.config.seed + 1, "encoders": encoders}).build_encoders()[role].eval()
