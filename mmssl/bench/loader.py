"""`mmssl bench loader`: what the loader costs over bare decoding, how it grows with workers, and whether its memory stays flat.

A row is what an audio-visual objective asks for: 4 frames of 112 pixels and 1 s of sound. Every contender gives the same rows, checked by
a digest of all their bytes.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np

from mmssl.bench.clips import short_clips
from mmssl.bench.race import Field, Spread, Task
from mmssl.bench.result import Result, Settings, Target, at_most, cores, race_rows
from mmssl.bench.runner import Contender, Runner, Work

BATCH, BATCHES = 16, 4  # rows in a batch, batches in a repetition
PICTURE = {"frames": 4, "size": 112, "fps": 4.0, "seconds": 1.0, "rate": 16_000}
MEMORY_ROWS, QUICK_ROWS, CHUNKS = 10_000, 480, 20
GROWTH = 0.02  # share by which the last fifth of the rows may use more memory than the second
BARE = "bare decoding"

Span = tuple[int, int]  # batches from, to


def run(settings: Settings) -> Result:
    """Race the loader against the decoder alone; then watch its memory."""
    folder = short_clips(6 if settings.quick else 24)
    crowd = list(dict.fromkeys((0, 1, 2, cores())))
    names = {workers: f"loader, {workers} workers" for workers in crowd}
    contenders = [Contender(BARE, prepare_bare, {"folder": folder, "seed": settings.seed})]
    for workers, name in names.items():
        contenders.append(Contender(name, prepare_loader, {"folder": folder, "seed": settings.seed, "workers": workers}))
    inputs = [(number * BATCHES, (number + 1) * BATCHES) for number in range(settings.reps)]
    task = Task(f"{BATCHES} batches of {BATCH} rows", inputs, BATCH * BATCHES)
    with Field(contenders, say=settings.say) as field:
        digests = field.outputs((0, BATCHES))
        race = field.race([task], seed=settings.seed)
    rows = race_rows(race, [task.name], [c.name for c in contenders], reference=BARE, task="task", unit="row")
    for row in rows:
        row["rows/s"] = 1000 / row["wall ms/row"] if row["wall ms/row"] else float("nan")
        row["equal rows"] = "yes" if digests.get(row["contender"]) == digests.get(BARE) else "no"
        if not row["contender"].startswith((BARE, names[0])):
            row["CPU ms/row"] = row["CPU ratio"] = float("nan")  # the workers' share is not in this process's clock
            row["quartiles"] = ""
    overhead = race.ratio(task.name, names[0], BARE)
    memory, shown = _memory(settings)
    targets = [_overhead(overhead), _growth(memory, shown)]
    about = (
        f"rows of {PICTURE['frames']} frames of {PICTURE['size']} px and {PICTURE['seconds']:g} s of sound from 320x240 clips; {settings.reps} "
        f"repetitions. Ratios: time over bare decoding of the same rows."
    )
    return Result("loader", about, rows, targets, [shown, *(f"{name}: {why}" for name, why in race.failed.items())])


def _overhead(ratio: Spread) -> Target:
    share = ratio.median - 1
    shown = f"{share:.1%} (quartiles {ratio.low - 1:.1%}..{ratio.high - 1:.1%})"
    return at_most("CPU of the loader over bare decoding, without workers", "below 10%", share, shown, met=share < 0.10)


def _growth(memory: list[int], shown: str) -> Target:
    if not all(memory):
        return Target("growth of resident memory", f"at most {GROWTH:.0%}", "not measured here", None)
    early, late = _fifths(memory)
    return at_most(
        "growth of resident memory", f"at most {GROWTH:.0%}", late / early - 1, shown, met=late <= early * (1 + GROWTH)
    )


def _fifths(memory: list[int]) -> tuple[float, float]:
    fifth = len(memory) // 5
    return float(np.median(memory[fifth : 2 * fifth])), float(np.median(memory[-fifth:]))


def _memory(settings: Settings) -> tuple[list[int], str]:
    """Resident bytes after each chunk of rows of small clips, in a process of its own."""
    folder = short_clips(6, width=160, height=120, seconds=3.0)
    rows = QUICK_ROWS if settings.quick else MEMORY_ROWS
    batches = max(1, rows // CHUNKS // BATCH)
    runner = Runner(Contender("memory", prepare_loader, {"folder": folder, "seed": settings.seed, "workers": 0, "digest": False}))
    found: list[int] = []
    try:
        if runner.problem:
            return [0], f"memory: not measured ({runner.problem})"
        for chunk in range(CHUNKS):
            settings.say(f"memory: {chunk * batches * BATCH} of {rows} rows")
            found.append(runner.run((chunk * batches, (chunk + 1) * batches))[2])
    finally:
        runner.close()
    early, late = _fifths(found)
    return (
        found,
        f"{early / 2**20:.1f} MiB in the second fifth of {CHUNKS * batches * BATCH} rows, {late / 2**20:.1f} MiB in the last",
    )


def prepare_bare(*, folder: Path, seed: int) -> Work:
    """The same rows by `answer` alone: no samples, no collation, no loader."""
    from mmssl.data.decode import answer

    stream = _stream(folder, seed)

    def work(span: Span) -> int:
        digest = 0
        for place in range(span[0] * BATCH, span[1] * BATCH):
            source = stream.sources[stream._at(place, 0)]
            plan = stream.plans(source, place)[0][0]
            answers = answer(source, list(plan.requests.values()))
            digest = _digest(digest, {key: answers[request] for key, request in plan.requests.items()})
        return digest

    return work


def prepare_loader(*, folder: Path, seed: int, workers: int, digest: bool = True) -> Work:
    """`mmssl.data.loader.Loader` with so many worker processes."""
    from mmssl.data.loader import Loader

    loader = Loader([_stream(folder, seed)], workers=workers)

    def work(span: Span) -> int:
        value = 0
        for batch in loader.steps(*span):
            columns = batch.micro[0]["bench"]
            for row in range(BATCH):
                value = _digest(value, {key: columns[key][row] for key in ("video", "audio")}) if digest else 0
        return value

    return work


def _digest(value: int, row: dict[str, Any]) -> int:
    for key in ("video", "audio"):
        value = zlib.crc32(row[key].contiguous().numpy().tobytes(), value)
    return value


def _stream(folder: Path, seed: int) -> Any:
    from mmssl.cuts.pairs import PairViews
    from mmssl.data.index import open_corpus
    from mmssl.data.stream import Stream

    corpus = open_corpus(folder, progress=False)
    return Stream(corpus, {"bench": PairViews(**PICTURE)}, seed=seed, batch=BATCH)
