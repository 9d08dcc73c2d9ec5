"""`mmssl bench augment`: from decoded frames to a normalised float batch: random crop, resize, mirror, colour jitter, normalise.

mmssl crops and resizes uint8 frames in the loader's worker and does the colours of the whole batch at once, by one matrix for each clip;
the rival is torchvision's v2 chain, clip by clip, as most recipes use it. The matrix is an approximation: its distance from the exact
chain, for the same draws, is told with the times.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmssl.bench.race import Field, Race, Task
from mmssl.bench.result import Result, Settings, Target, at_least, race_rows
from mmssl.bench.runner import Contender, Work
from mmssl.rng import Purpose, rng_for, seed_for
from mmssl.types import Box

CLIPS, FRAMES = 4, 16
CASES = {"240p to 112": (240, 320, 112), "240p to 224": (240, 320, 224), "360p to 224": (360, 640, 224)}
QUICK = {"240p to 112": CASES["240p to 112"]}
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
JITTER: dict[str, Any] = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1}
SCALE = (0.4, 1.0)
OURS, EXACT, V2, V2_FLOAT = "mmssl fused", "mmssl exact", "torchvision v2", "torchvision v2, float first"
CROPS = "mmssl, worker's part alone"


def run(settings: Settings) -> Result:
    """Race the chains on the CPU, and on a GPU where there is one."""
    cases = QUICK if settings.quick else CASES
    places = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    rows: list[dict[str, Any]] = []
    targets: list[Target] = []
    for place in places:
        race, names = _race(cases, place, settings)
        table = race_rows(race, list(cases), names, reference=OURS, task="case", unit="clip")
        rows += [{"device": place} | row for row in table]
        clock = "cpu" if place == "cpu" else "wall"
        least = min((race.ratio(case, V2, OURS, clock) for case in cases), key=lambda ratio: ratio.median)
        targets.append(at_least(f"{clock} time of torchvision v2's chain over mmssl's on {place}, the least", 8.0, least))
    about = (
        f"batches of {CLIPS} clips of {FRAMES} frames: crop {SCALE[0]:g} to {SCALE[1]:g} of the area, resize, mirror, jitter "
        f"{', '.join(f'{key} {value:g}' for key, value in JITTER.items())}, normalise; {settings.reps} repetitions, one thread. Ratios: over {OURS}."
    )
    return Result("augment", about, rows, targets, [_distance(settings.seed)])


def _race(cases: dict[str, tuple[int, int, int]], device: str, settings: Settings) -> tuple[Race, list[str]]:
    contenders = [
        Contender(OURS, prepare_mmssl, {"mode": "fused", "device": device}),
        Contender(EXACT, prepare_mmssl, {"mode": "exact", "device": device}),
        Contender(V2, prepare_v2, {"float_first": False, "device": device}),
        Contender(V2_FLOAT, prepare_v2, {"float_first": True, "device": device}),
        Contender(CROPS, prepare_mmssl, {"mode": None, "device": device}),
    ]
    tasks = [
        Task(name, [(settings.seed + number, *case) for number in range(settings.reps)], CLIPS) for name, case in cases.items()
    ]
    with Field(contenders, say=settings.say) as field:
        return field.race(tasks, seed=settings.seed), [contender.name for contender in contenders]


class Pictures:
    """Smooth random clips (N, T, H, W, 3) uint8, the same for all contenders; making them is kept out of the lap's figures by reuse."""

    def __init__(self) -> None:
        self._made: dict[tuple[int, int], np.ndarray] = {}

    def __call__(self, height: int, width: int) -> np.ndarray:
        """The clips of this size; made when first asked for, which is in the lap that is not counted."""
        if (height, width) not in self._made:
            coarse = rng_for(0, Purpose.EVALUATE, "bench augment").integers(0, 256, (CLIPS * FRAMES, 3, 30, 40), dtype=np.uint8)
            smooth = torch.nn.functional.interpolate(torch.from_numpy(coarse).float(), (height, width), mode="bilinear")
            frames = smooth.byte().permute(0, 2, 3, 1).contiguous().numpy()
            self._made[height, width] = frames.reshape(CLIPS, FRAMES, height, width, 3)
        return self._made[height, width]


def prepare_mmssl(*, mode: str | None, device: str) -> Work:
    """The worker's crop and resize, then `FrameAugment` on the device and the encoder's normalisation. mode None: the first alone."""
    from mmssl.data.decode.picture import cut_alike
    from mmssl.nn.augment import FrameAugment
    from mmssl.nn.inputs import NormalizePictures

    pictures = Pictures()
    augment = FrameAugment(**JITTER, flip=0.5, mode="exact" if mode == "exact" else "fused")
    normalize = NormalizePictures(MEAN, STD).to(device)

    def work(given: tuple[int, int, int, int]) -> None:
        seed, height, width, side = given
        torch.default_generator.manual_seed(seed_for(seed, Purpose.STEP, 0))  # all draws are the host's; seeding is not raced
        rng = rng_for(seed, Purpose.CUT)
        batch = torch.stack([_worker(clip, draw_box(rng), side, cut_alike) for clip in pictures(height, width)])
        if mode is not None:
            finish(normalize(augment(batch.to(device))))

    return work


def _worker(clip: np.ndarray, box: Box, side: int, cut: Callable[..., np.ndarray]) -> Tensor:
    return torch.from_numpy(cut(list(clip), box=box, size=(side, side))).permute(0, 3, 1, 2)


def draw_box(rng: np.random.Generator) -> Box:
    """A crop as torchvision's RandomResizedCrop draws it, in fractions, with the aspect kept in range of the picture."""
    area, ratio = rng.uniform(*SCALE), np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3)))
    width, height = min(1.0, float(np.sqrt(area * ratio))), min(1.0, float(np.sqrt(area / ratio)))
    return Box(float(rng.uniform(0, 1 - width)), float(rng.uniform(0, 1 - height)), width, height)


def prepare_v2(*, float_first: bool, device: str) -> Work:
    """torchvision's v2 transforms, one draw for each clip."""
    from torchvision.transforms import v2

    pictures = Pictures()
    side_chains: dict[int, v2.Compose] = {}

    def chain(side: int) -> v2.Compose:
        to_float = v2.ToDtype(torch.float32, scale=True)
        steps = [v2.RandomResizedCrop(side, scale=SCALE, antialias=True), v2.RandomHorizontalFlip(), v2.ColorJitter(**JITTER)]
        normalise = v2.Normalize(MEAN, STD)
        return v2.Compose([to_float, *steps, normalise] if float_first else [*steps, to_float, normalise])

    def work(given: tuple[int, int, int, int]) -> None:
        seed, height, width, side = given
        torch.default_generator.manual_seed(seed_for(seed, Purpose.STEP, 0))  # all draws are the host's; seeding is not raced
        if side not in side_chains:
            side_chains[side] = chain(side)
        clips = (torch.from_numpy(clip).permute(0, 3, 1, 2).to(device) for clip in pictures(height, width))
        finish(torch.stack([side_chains[side](clip) for clip in clips]))

    return work


def finish(tensor: Tensor) -> None:
    """Wait until a tensor is really there."""
    if tensor.is_cuda:
        torch.cuda.synchronize()


def _distance(seed: int) -> str:
    """How far the fused colours are from the exact ones, for the same draws."""
    from mmssl.nn.augment import FrameAugment

    torch.manual_seed(seed_for(seed, Purpose.STEP, 1))
    clips = torch.from_numpy(Pictures()(60, 80)).permute(0, 1, 4, 2, 3)
    apart: dict[str, list[float]] = {"with hue": [], "without hue": []}
    strengths: dict[str, Any]
    for name, strengths in (("with hue", JITTER), ("without hue", {**JITTER, "hue": 0.0})):
        for _ in range(5):
            fused, exact = FrameAugment(**strengths), FrameAugment(**strengths, mode="exact")
            draw = fused.draw(CLIPS, 60, 80)
            apart[name] += (fused.apply(clips, draw).float() - exact.apply(clips, draw)).abs().mean((1, 2, 3, 4)).tolist()
    told = "; ".join(f"{name} median {np.median(values):.1f}, largest {max(values):.1f}" for name, values in apart.items())
    return f"mean |fused - exact| over a clip, grey levels of 255, {len(apart['with hue'])} draws: {told}"
