"""A folder of clips: rendered in parallel, stamped, continued where it was interrupted.

Layout: `toyworld.json` (the stamp: all parameters), and for each clip `clip_000000.mp4`, `.srt` and `.npz`. A clip is there when its
`.npz` is: it is written last.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import cv2
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from mmssl.data.one_thread import one_thread
from mmssl.data.toyworld.captions import write_srt
from mmssl.data.toyworld.clip import plan_clip
from mmssl.data.toyworld.difficulty import Cut, Difficulty, find_cut, find_difficulty
from mmssl.data.toyworld.picture import draw_pictures
from mmssl.data.toyworld.recording import record
from mmssl.data.toyworld.sound import synthesise
from mmssl.data.toyworld.truth import VERSION, truth_bytes, truth_path
from mmssl.files import write_aside
from mmssl.types import InputError

STAMP = "toyworld.json"
_CHUNK = 8  # clips that a worker makes between two messages
_STALE = 60.0  # seconds; writing a file takes milliseconds
_FEW = 48  # clips for which starting worker processes would cost more than it saves


class _World(NamedTuple):
    """What decides the content of every clip."""

    seed: int
    difficulty: Difficulty
    cut: Cut | None


def make_toyworld(
    out: Path,
    *,
    clips: int,
    seed: int = 0,
    difficulty: str | Difficulty = "default",
    cut: str | None = None,
    workers: int | None = None,
    progress: bool = True,
) -> Path:
    """Make (or complete) the toy corpus of `clips` clips in the folder `out` -> `out`.

    Clip i depends on seed, difficulty, cut and i alone. The same call again does nothing; an interrupted one is continued; a larger
    `clips` adds to what there is. `workers`: processes, None: one for each core, 0: in this process.

    Raises `InputError` where `out` holds a corpus with other parameters (or more clips), naming the difference, or other files.
    """
    if clips < 1:
        raise InputError(f"clips is {clips}; a corpus has at least 1")
    if seed < 0:
        raise InputError(f"seed is {seed}; seeds are integers >= 0")
    out = Path(out)
    world = _World(seed, find_difficulty(difficulty), find_cut(cut))
    _claim(out, world, clips)
    missing = [index for index in range(clips) if not truth_path(clip_path(out, index)).is_file()]
    if missing:
        done = _make_clips(out, world, missing, _processes(workers, len(missing)))
        for _ in _shown(done, len(missing), progress):
            pass
        _sweep(out)
    return out


def clip_path(out: Path, index: int) -> Path:
    """Where clip `index` of a corpus lies."""
    return Path(out) / f"clip_{index:06d}.mp4"


def make_clip(path: Path, *, seed: int, index: int, difficulty: Difficulty, cut: Cut | None = None) -> None:
    """Draw one clip and write it to `path`, with its `.srt` and `.npz` beside it."""
    _write(_files_of(path, _World(seed, difficulty, cut), index))


def _files_of(path: Path, world: _World, index: int) -> dict[Path, bytes]:
    """Path -> content, in the order in which they are to be written."""
    difficulty = world.difficulty
    clip = plan_clip(world.seed, index, difficulty, world.cut)
    pictures = draw_pictures(clip)
    return {
        path: record(pictures.frames, synthesise(clip), fps=difficulty.fps, rate=difficulty.rate),
        path.with_suffix(".srt"): write_srt(clip.captions).encode(),
        truth_path(path): truth_bytes(clip, pictures),
    }


def _write(files: dict[Path, bytes]) -> None:
    for path, content in files.items():
        write_aside(path, content)


def _claim(out: Path, world: _World, clips: int) -> None:
    """Put the stamp into `out`, or compare with the one that is there."""
    stamp = {"version": VERSION, "seed": world.seed, "cut": world.cut, "difficulty": world.difficulty.as_dict(), "clips": clips}
    path = out / STAMP
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; give a folder for the toy world")
    if not path.is_file():
        if out.is_dir() and any(out.iterdir()):
            raise InputError(f"{out} is not empty and holds no toy world ({STAMP} is missing); give a new or empty folder")
        write_aside(path, _dump(stamp))
        return
    try:
        found = json.loads(path.read_text())
        there = _flat(found)
    except (ValueError, AttributeError) as error:
        raise InputError(f"{path} is not the stamp of a toy world ({error}); remove the folder or give another one") from error
    wanted = _flat(stamp)
    differences = [
        f"{key} is {there.get(key)}, asked for {wanted.get(key)}"
        for key in sorted(wanted.keys() | there.keys())
        if there.get(key) != wanted.get(key)
    ]
    if differences == [f"clips is {there.get('clips')}, asked for {clips}"] and int(there["clips"]) < clips:
        write_aside(path, _dump(stamp))
    elif differences:
        raise InputError(f"{out} holds another toy world: {'; '.join(differences)}; give another folder or remove this one")


def _sweep(out: Path) -> None:
    """Remove what a killed process left half written; what is younger may belong to one that is alive."""
    for part in out.glob(".clip_*.part.*"):
        with suppress(FileNotFoundError):
            if time.time() - part.stat().st_mtime > _STALE:
                part.unlink()


def _dump(stamp: dict[str, Any]) -> bytes:
    return (json.dumps(stamp, indent=2) + "\n").encode()


def _flat(stamp: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in stamp.items() if key != "difficulty"} | {
        f"difficulty.{key}": value for key, value in stamp["difficulty"].items()
    }


def _processes(workers: int | None, clips: int) -> int:
    if workers is None:
        return (
            0
            if clips <= _FEW
            else min(
                len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1, -(-clips // _CHUNK)
            )
        )
    if workers < 0:
        raise InputError(f"workers is {workers}; give 0 (this process) or more")
    return workers


def _make_clips(out: Path, world: _World, indices: list[int], processes: int) -> Iterator[int]:
    """Make clips; yields how many more are done."""
    if processes == 0:
        with one_thread():
            for index in indices:
                yield _make_chunk(out, world, [index])
        return
    chunks = [indices[k : k + _CHUNK] for k in range(0, len(indices), _CHUNK)]
    # Spawned, not forked: the parent may hold threads and open decoders.
    pool = ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn"), initializer=_start_worker)
    try:
        for future in as_completed([pool.submit(_make_chunk, out, world, chunk) for chunk in chunks]):
            yield future.result()
    except BrokenProcessPool as error:
        raise RuntimeError(
            f"a process that rendered the toy world in {out} was killed (out of memory?); the same call continues"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _start_worker() -> None:
    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent alone answers it
    threading.Thread(target=_leave_with_parent, daemon=True).start()


def _leave_with_parent() -> None:
    # A pool's workers would otherwise wait for ever on the queue of a parent that was killed.
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _make_chunk(out: Path, world: _World, indices: list[int]) -> int:
    # While the disk confirms one clip (a third of the time, three files each with an fsync), the next one is drawn.
    with ThreadPoolExecutor(1) as writer:
        written: Future[None] | None = None
        for index in indices:
            files = _files_of(clip_path(out, index), world, index)
            if written is not None:
                written.result()
            written = writer.submit(_write, files)
        if written is not None:
            written.result()
    return len(indices)


def _shown(done: Iterable[int], total: int, progress: bool) -> Iterator[int]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, disable=not progress) as bar:
        task = bar.add_task("rendering the toy world", total=total)
        for count in done:
            bar.update(task, advance=count)
            yield count
