"""`mmssl bench decode`: 16 frames with the short side at 128 pixels, alone and with 2 s of sound, from random places of a file.

The file is opened anew for every clip, as a loader does. All contenders decode the same moments of the same file in each repetition, on
one thread. Resizing filters differ between libraries, so equality is judged on frames of the file's own size.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mmssl.bench.clips import Clip, made_clips, real_clips
from mmssl.bench.race import Field, Race, Task, spread
from mmssl.bench.result import Result, Settings, Target, at_least, race_rows
from mmssl.bench.runner import Contender, Work
from mmssl.rng import Purpose, rng_for
from mmssl.types import Frames, Source, Wave

FRAMES, STRIDE = 16, 2
SECONDS, RATE = 2.0, 16_000
CLIPS = 2  # in each repetition
OURS, PLAIN, DECORD, TORCHCODEC = "mmssl", "mmssl without skipping", "decord", "torchcodec exact"
FLOOR = "mmssl, nothing drawn"  # the wanted frames decoded, not turned into pixels: no faster drawing could go below


class Cut(NamedTuple):
    """One clip to decode."""

    path: Path
    fps: float
    times: tuple[float, ...]
    size: tuple[int, int]  # (height, width) to resize the whole picture to
    start: float  # of the sound; NaN: no sound

    @property
    def has_sound(self) -> bool:
        """Whether sound is asked for."""
        return not np.isnan(self.start)


Decoded = list[tuple[np.ndarray, np.ndarray | None]]  # frames (T, H, W, 3) uint8, sound (samples,) float32


def run(settings: Settings) -> Result:
    """Race the decoders."""
    clips = made_clips(quick=settings.quick)
    if settings.media is not None:
        clips += real_clips(settings.media, at_most=2 if settings.quick else 4)
    contenders = [
        Contender(OURS, prepare_mmssl),
        Contender(PLAIN, prepare_opened, {"skip": False, "draw": True}),
        Contender(FLOOR, prepare_opened, {"skip": True, "draw": False}),
        Contender(DECORD, prepare_decord),
        Contender(TORCHCODEC, prepare_torchcodec),
    ]
    tasks = [Task(f"{clip.name}{kind}", _laps(clip, settings, bool(kind)), CLIPS) for clip in clips for kind in ("", " + sound")]
    with Field(contenders, say=settings.say) as field:
        equal = {clip.name: _compare(field, clip, settings.seed) for clip in clips}
        race = field.race(tasks, seed=settings.seed)
    names = [contender.name for contender in contenders]
    rows = race_rows(race, [task.name for task in tasks], names, reference=OURS, task="file", unit="clip")
    for row in rows:
        row["equal frames"] = equal[row["file"].removesuffix(" + sound")].get(row["contender"], "")
    about = (
        f"{FRAMES} frames, stride {STRIDE}, short side 128, alone and with {SECONDS:g} s of {RATE // 1000} kHz mono sound; {settings.reps} "
        f"repetitions of {CLIPS} clips, one thread. Ratios: time of the contender over mmssl's."
    )
    notes = [f"{name}: {why}" for name, why in race.failed.items()]
    notes += _bounds(race, [f"{clip.name} + sound" for clip in clips])
    return Result("decode", about, rows, _targets(race, clips), notes)


def _bounds(race: Race, tasks: list[str]) -> list[str]:
    """How far ahead of each rival our reader would be if drawing were free."""
    told: list[str] = []
    for rival in (DECORD, TORCHCODEC):
        bounds = {task: race.ratio(task, rival, FLOOR).median for task in tasks}
        bounds = {task: bound for task, bound in bounds.items() if not np.isnan(bound)}
        if bounds:
            task = min(bounds, key=lambda name: bounds[name])
            told.append(
                f"{rival} over {FLOOR}: at least {bounds[task]:.2f} ({task}): how far ahead mmssl would be if drawing were free"
            )
    return told


def _targets(race: Race, clips: list[Clip]) -> list[Target]:
    made = [clip.name for clip in clips if "GOP" in clip.name]
    with_sound = [f"{clip.name} + sound" for clip in clips]
    long_gop = [name for name in made if name.endswith("GOP 250")]
    return [
        at_least(
            "CPU of decord's picture and sound over mmssl's, each file's median, the least", 2.5, _least(race, with_sound, DECORD)
        ),
        at_least("CPU of torchcodec's picture and sound over mmssl's, the least", 1.0, _least(race, with_sound, TORCHCODEC)),
        at_least("CPU without skipping over with it, picture alone, GOP 250, the least", 1.15, _least(race, long_gop, PLAIN)),
    ]


def _least(race: Race, tasks: list[str], contender: str) -> Any:
    found = [race.ratio(task, contender, OURS) for task in tasks]
    return min((ratio for ratio in found if not np.isnan(ratio.median)), default=spread([]))


def _laps(clip: Clip, settings: Settings, sound: bool) -> list[list[Cut]]:
    rng = rng_for(settings.seed, Purpose.EVALUATE, "bench decode", clip.name)
    return [[_draw(clip, clip.small, rng, sound) for _ in range(CLIPS)] for _ in range(settings.reps)]


def _draw(clip: Clip, size: tuple[int, int], rng: np.random.Generator, sound: bool) -> Cut:
    stride = STRIDE if clip.fps <= 30 else round(STRIDE * clip.fps / 25)
    length = max(FRAMES * stride / clip.fps, SECONDS)
    # The middle of a frame's time, so that no contender is judged by how it rounds.
    first = int(rng.uniform(0.1, max(0.2, clip.seconds - length - 0.3)) * clip.fps)
    times = tuple((first + stride * number + 0.5) / clip.fps for number in range(FRAMES))
    return Cut(clip.path, clip.fps, times, size, times[0] if sound else float("nan"))


def _compare(field: Field, clip: Clip, seed: int) -> dict[str, str]:
    """How many frames of two clips, at the file's own size, equal ours."""
    rng = rng_for(seed, Purpose.EVALUATE, "bench equal", clip.name)
    outputs = field.outputs([_draw(clip, (clip.height, clip.width), rng, False) for _ in range(2)])
    if OURS not in outputs:
        return {}
    outputs.pop(FLOOR, None)
    ours = np.concatenate([frames for frames, _ in outputs[OURS]])
    told: dict[str, str] = {}
    for name, decoded in outputs.items():
        theirs = np.concatenate([frames for frames, _ in decoded])
        if theirs.shape != ours.shape:
            told[name] = f"shape {theirs.shape[1:]}"
            continue
        same = (theirs == ours).all(axis=(1, 2, 3))
        apart = np.abs(theirs.astype(np.int16) - ours).mean()
        told[name] = f"{int(same.sum())}/{len(same)}" + ("" if same.all() else f", mean diff {apart:.2f}")
    return told


def prepare_mmssl() -> Work:
    """`mmssl.data.decode.answer` with its default backend."""
    from mmssl.data.decode import answer

    def work(cuts: list[Cut]) -> Decoded:
        return [_decoded(cut, answer(Source("bench", cut.path), _requests(cut))) for cut in cuts]

    return work


def prepare_opened(*, skip: bool, draw: bool) -> Work:
    """What `pyav.read` does, with its skipping or its drawing turned off."""
    from mmssl.data.container import open_media
    from mmssl.data.decode.picture import Canvas, Painter
    from mmssl.data.decode.pyav import PyavAnswerer

    class Undrawn(Canvas, Painter):
        """Takes every frame, and makes nothing of it."""

        def __init__(self, requests: list[Frames]) -> None:
            Canvas.__init__(self, requests)

        def rgb(self, *_: object, **__: object) -> np.ndarray:
            return np.empty(0, np.uint8)

        def draw(self, *_: object, **__: object) -> None:
            pass

    def work(cuts: list[Cut]) -> Decoded:
        decoded: Decoded = []
        for cut in cuts:
            frames, *waves = _requests(cut)
            canvas = Canvas([frames]) if draw else Undrawn([frames])
            with open_media(cut.path) as container:
                answerer = PyavAnswerer(cut.path, container, canvas, canvas if isinstance(canvas, Undrawn) else Painter())
                answerer.skips = answerer.skips and skip
                sounds = answerer.collect(canvas.times, waves)
            decoded.append(_decoded(cut, {**canvas.answers(), **sounds}))
        return decoded

    return work


def _requests(cut: Cut) -> list[Any]:
    frames = Frames(cut.times, cut.size)
    return [frames, Wave(cut.start, SECONDS, RATE)] if cut.has_sound else [frames]


def _decoded(cut: Cut, got: Mapping[Any, Any]) -> tuple[np.ndarray, np.ndarray | None]:
    frames, *waves = _requests(cut)
    return got[frames].permute(0, 2, 3, 1).numpy(), np.asarray(got[waves[0]]) if waves else None


def prepare_decord() -> Work:
    """decord's readers as its documentation uses them."""
    import decord

    def work(cuts: list[Cut]) -> Decoded:
        decoded: Decoded = []
        for cut in cuts:
            height, width = cut.size
            reader = decord.VideoReader(str(cut.path), ctx=decord.cpu(0), width=width, height=height, num_threads=1)
            frames = reader.get_batch([int(time * cut.fps) for time in cut.times]).asnumpy()
            sound = None
            if cut.has_sound:
                track = decord.AudioReader(str(cut.path), ctx=decord.cpu(0), sample_rate=RATE, mono=True)
                first = round(cut.start * RATE)
                sound = track[first : first + round(SECONDS * RATE)].asnumpy()[0]
            decoded.append((frames, sound))
        return decoded

    return work


def prepare_torchcodec() -> Work:
    """torchcodec's exact mode, resized by torchvision, which was its fastest way."""
    decoders = importlib.import_module("torchcodec.decoders")  # an extra
    from torchvision.transforms.v2.functional import resize

    def work(cuts: list[Cut]) -> Decoded:
        decoded: Decoded = []
        for cut in cuts:
            decoder = decoders.VideoDecoder(str(cut.path), seek_mode="exact", num_ffmpeg_threads=1)
            start = decoder.metadata.begin_stream_seconds or 0.0
            data = decoder.get_frames_played_at([start + time for time in cut.times]).data
            if tuple(data.shape[2:]) != cut.size:
                data = resize(data, list(cut.size))
            sound = None
            if cut.has_sound:
                track = decoders.AudioDecoder(str(cut.path), sample_rate=RATE, num_channels=1)
                sound = track.get_samples_played_in_range(cut.start, cut.start + SECONDS).data[0].numpy()
            decoded.append((data.permute(0, 2, 3, 1).numpy(), sound))
        return decoded

    return work
