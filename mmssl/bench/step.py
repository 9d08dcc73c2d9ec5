"""`mmssl bench step`: one optimizer step of a real model: clips a second, the share of the machine's peak it reaches, and what it waits for.

The peak is measured, not quoted: the best rate of a large matrix product in the same number format, on the same cores or GPU. FLOPs are
counted by torch (2 for each multiply-add) over one forward and backward pass; model FLOPs utilisation is their rate over that peak.
"""

from __future__ import annotations

import contextlib
import time
from typing import Any, NamedTuple

import torch

from mmssl.bench.clips import short_clips
from mmssl.bench.race import Field, Race, Task
from mmssl.bench.result import Result, Settings, cores
from mmssl.bench.runner import Contender, Runner, Work

SIDES = {"cpu": 2048, "cuda": 8192}  # of the matrices of the peak
PEAK_TRIES = 5
FED_STEPS = 6


class Model(NamedTuple):
    """A model and how much it is given: encoders' names and arguments, rows in a batch."""

    video: tuple[str, dict[str, Any]]
    audio: tuple[str, dict[str, Any]]
    batch: int


class Way(NamedTuple):
    """How a step is computed."""

    name: str
    dtype: str
    channels_last: bool


TINY = Model(("frame_resnet", {"size": "tiny"}), ("audio_cnn", {"size": "tiny"}), 16)
MODELS = {
    "cpu": {
        "tiny frames + sound": TINY,
        "R(2+1)D-18 + sound": Model(
            ("video_resnet", {"size": "r2plus1d_18", "frames": 8}), ("audio_cnn", {"size": "resnet18"}), 4
        ),
    },
    "cuda": {
        "ResNet-18 frames + sound": Model(("frame_resnet", {"size": "resnet18"}), ("audio_cnn", {"size": "resnet18"}), 256),
        "R(2+1)D-18 + sound": Model(("video_resnet", {"size": "r2plus1d_18"}), ("audio_cnn", {"size": "resnet18"}), 64),
    },
}
WAYS = (Way("float32", "float32", False), Way("bfloat16", "bfloat16", False), Way("bfloat16, channels last", "bfloat16", True))


def run(settings: Settings) -> Result:
    """Race the ways to compute a step, then feed the last of them by the loader."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    models = {"tiny frames + sound": TINY} if settings.quick else MODELS[device]
    rows: list[dict[str, Any]] = []
    notes: list[str] = []
    for name, model in models.items():
        contenders = [Contender(way.name, prepare_step, {"model": model, "way": way, "device": device}) for way in WAYS]
        with Field(contenders, threads=cores(), say=settings.say) as field:
            flops, peaks = field.outputs("flops"), field.outputs("peak")
            race = field.race([Task(name, ["step"] * settings.reps, model.batch)], seed=settings.seed)
        rows += [_row(race, name, way.name, flops, peaks) for way in WAYS]
        notes += [f"{which}: {why}" for which, why in race.failed.items()]
        notes.append(f"{name}, {WAYS[-1].name}: {_fed(model, WAYS[-1], device, settings)}")
    about = (
        f"forward, backward and AdamW of av_nce on {device}, {cores()} cores, {settings.reps} repetitions. MFU: FLOPs of the model a second over "
        f"the measured peak of a matrix product ({SIDES[device]} a side) in the same format. Speed-up: over float32, wall time."
    )
    return Result("step", about, rows, notes=notes)


def _row(race: Race, task: str, way: str, flops: dict[str, float], peaks: dict[str, float]) -> dict[str, Any]:
    wall = race.milliseconds(task, way, "wall").median
    gain = race.ratio(task, WAYS[0].name, way, "wall")
    work, peak = flops.get(way, float("nan")) / race.units[task], peaks.get(way, float("nan"))
    return {
        "model": task,
        "way": way,
        "clips/s": 1000 / wall,
        "wall ms/clip": wall,
        "CPU ms/clip": race.milliseconds(task, way).median,
        "speed-up": gain.median,
        "quartiles": f"{gain.low:.2f}..{gain.high:.2f}",
        "GFLOP/clip": work / 1e9,
        "peak TFLOP/s": peak / 1e12,
        "MFU %": 100 * work * 1000 / wall / peak,
    }


def _fed(model: Model, way: Way, device: str, settings: Settings) -> str:
    """The share of wall time that steps stand still for data, with the loader's default number of workers."""
    folder = short_clips(6 if settings.quick else 24)
    arguments = {"model": model, "way": way, "device": device, "folder": folder}
    runner = Runner(Contender("fed", prepare_fed, arguments), threads=cores())
    try:
        if runner.problem:
            return f"not fed by the loader ({runner.problem})"
        settings.say("feeding the model by the loader")
        wait, wall, clips = runner.run(FED_STEPS)[3]
    finally:
        runner.close()
    return f"fed by the loader {clips / wall:.1f} clips/s, waiting for data {wait / wall:.0%} of the time"


class Step:
    """A model, its optimizer, and one batch that stays on the device."""

    def __init__(self, model: Model, way: Way, device: str) -> None:
        from mmssl.encoders.base import build_encoder
        from mmssl.objectives.av_nce import AudioVisualNCE
        from mmssl.training.model import Pretraining, conv_channels_last
        from mmssl.training.optim import make_optimizer, parameter_groups, set_lr

        torch.manual_seed(0)
        encoders = {"video": build_encoder(*model.video), "audio": build_encoder(*model.audio)}
        self.objective = AudioVisualNCE(encoders=encoders)
        self.model = Pretraining(encoders, {"av_nce": self.objective}).to(device)
        if way.channels_last:
            conv_channels_last(self.model)
        self.optimizer = make_optimizer("adamw", parameter_groups(self.model, weight_decay=0.05, lr_scale={}), betas=(0.9, 0.95))
        set_lr(self.optimizer, 1e-3)
        self.device, self.dtype, self.rows = torch.device(device), way.dtype, model.batch

    def batch(self) -> dict[str, dict[str, torch.Tensor]]:
        """Noise in the shape of what the views would cut."""
        from mmssl.cuts.pairs import PairViews

        views = self.objective.views
        assert isinstance(views, PairViews) and views.frames and views.size and views.rate and views.seconds
        video = torch.randint(0, 256, (self.rows, views.frames, views.size, views.size, 3), dtype=torch.uint8)
        audio = torch.rand(self.rows, round(views.rate * views.seconds)) - 0.5
        columns = {"video": video.permute(0, 1, 4, 2, 3), "audio": audio, "source": torch.arange(self.rows)}
        return {"av_nce": {key: value.to(self.device) for key, value in columns.items()}}

    def gradients(self, batch: dict[str, dict[str, torch.Tensor]]) -> None:
        """Forward and backward."""
        from mmssl.training.stepping import autocast

        with autocast(self.device, self.dtype):
            loss, _ = self.model(batch)
        loss.backward()

    def take(self, batch: dict[str, dict[str, torch.Tensor]]) -> None:
        """One whole step, finished on the device."""
        self.gradients(batch)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def prepare_step(*, model: Model, way: Way, device: str) -> Work:
    """A step's work; also asked for "flops" (of one batch, forward and backward) and "peak" (FLOP/s of a matrix product)."""
    step = Step(model, way, device)
    batch = step.batch()

    def work(given: str) -> float | None:
        if given == "peak":
            return matmul_peak(device, way.dtype)
        if given == "flops":
            return count_flops(step, batch)
        step.take(batch)
        return None

    return work


class _NoModules(contextlib.nullcontext[None]):
    parents = frozenset({"Global"})


def count_flops(step: Step, batch: dict[str, dict[str, torch.Tensor]]) -> float:
    """FLOPs of one forward and backward pass, by torch's own counter (matrix products and convolutions)."""
    from torch.utils.flop_counter import FlopCounterMode

    counter = FlopCounterMode(display=False)
    # Its tracker of modules fails on modules called under no_grad with views of what needs gradients; the sum needs no modules.
    counter.mod_tracker = _NoModules()  # pyright: ignore[reportAttributeAccessIssue]
    with counter:
        step.gradients(batch)
    step.optimizer.zero_grad(set_to_none=True)
    return float(counter.get_total_flops())


def matmul_peak(device: str, dtype: str) -> float:
    """The best rate of a few large matrix products, FLOP/s."""
    side = SIDES[device]
    kind = torch.bfloat16 if dtype == "bfloat16" else torch.float32
    a, b = (torch.randn(side, side, device=device, dtype=kind) for _ in range(2))
    best = float("inf")
    for _ in range(PEAK_TRIES + 1):  # the first one sets things up, and is never the best
        begin = time.perf_counter()
        torch.mm(a, b)
        if device == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - begin)
    return 2 * side**3 / best


def prepare_fed(*, model: Model, way: Way, device: str, folder: Any) -> Work:
    """Steps on batches that the loader decodes meanwhile -> (seconds waited, seconds in all, clips)."""
    from mmssl.data.index import open_corpus
    from mmssl.data.loader import Loader, default_workers
    from mmssl.data.stream import Stream
    from mmssl.training.model import to_device

    step = Step(model, way, device)
    corpus = open_corpus(folder, progress=False)
    stream = Stream(corpus, {"av_nce": step.objective.views}, seed=0, batch=model.batch)
    loader = Loader([stream], workers=default_workers(), pin=device == "cuda")

    def work(steps: int) -> tuple[float, float, int]:
        for batch in loader.steps(0, 2):  # workers start, kernels are chosen
            step.take(to_device(batch.micro[0], step.device))
        begin, waited = time.perf_counter(), 0.0
        for batch in loader.steps(2, 2 + steps):
            waited += batch.wait
            step.take(to_device(batch.micro[0], step.device))
        return waited, time.perf_counter() - begin, steps * model.batch

    return work
