"""Damaged files: every row is right or a `MediaError`; nothing crashes, hangs, or is passed over in silence.

Each damaged copy is read in a child process. A row that comes back is compared with the same row of the undamaged file. Two things cannot be
seen by any reader: pixels changed within a packet that still decodes without an error (number -1 here, or a stale picture), and packets that
a damaged container lost or stamped anew without a trace, which looks like a variable frame rate. Of those there may be few.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mmssl.data.container import display_size, open_media, picture_stream
from mmssl.data.decode import answer
from mmssl.rng import rng_for
from mmssl.types import Frames, MediaError, Source, Wave
from tests.media_makers import HEIGHT, WIDTH, make_film, make_flash_and_click, number_in

X264 = {"preset": "ultrafast", "bf": "2", "g": "12"}
REQUESTS = [Frames((0.2, 1.0, 2.5), (HEIGHT, WIDTH)), Wave(0.5, 1.0, 16000), Wave(2.5, 0.5, 16000)]
SECONDS_A_FILE = 10.0


def made_files(folder: Path) -> list[Path]:
    """Small whole files of several kinds."""
    films = {
        "a.mp4": ("libx264", X264, {}),
        "f.mp4": ("libx264", X264, {"container_options": {"movflags": "frag_keyframe+empty_moov"}}),
        "b.mkv": ("libx264", X264, {}),
        "c.webm": ("libvpx", {"deadline": "realtime", "cpu-used": "8", "g": "20"}, {}),
        "d.avi": ("mpeg4", {"q": "4", "g": "12"}, {}),
        "e.mpg": ("mpeg1video", {"g": "12", "bf": "2", "b": "1500000"}, {}),
        "g.ts": ("mpeg2video", {"g": "12", "b": "1500000"}, {}),
    }
    for name, (codec, options, more) in films.items():
        make_film(folder / name, frames=80, codec=codec, options=options, **more)
    clips = {
        "h.mp4": ("libx264", "aac"),
        "i.ts": ("mpeg2video", "mp2"),
        "j.avi": ("mpeg4", "libmp3lame"),
        "k.mkv": ("mpeg4", "flac"),
    }
    for name, (video, audio) in clips.items():
        make_flash_and_click(folder / name, video=video, audio=audio, events=(1.0, 2.0), seconds=3.2)
    return sorted(folder.iterdir())


def mutated(content: bytes, number: int) -> bytes:
    """A damaged copy: bits flipped, cut short, header hurt, a block zeroed, or a piece taken out."""
    rng = rng_for(7, number)
    data = np.frombuffer(content, np.uint8).copy()
    match number % 6:
        case 0:
            at = rng.integers(0, len(data), max(1, len(data) // 2000))
            data[at] ^= (1 << rng.integers(0, 8, len(at))).astype(np.uint8)
        case 1:
            data = data[: rng.integers(1, len(data))]
        case 2:
            at = rng.integers(0, min(len(data), 1024), 8)
            data[at] = rng.integers(0, 256, 8)
        case 3:
            at = int(rng.integers(0, len(data)))
            data[at : at + 2000] = 0
        case 4:
            at = int(rng.integers(0, len(data)))
            data = np.concatenate([data[:at], data[at + 777 :]])
        case _:
            at = rng.integers(max(0, len(data) - 4096), len(data), 12)
            data[at] = rng.integers(0, 256, 12)
    return data.tobytes()


def read_rows(path: Path) -> list[str]:
    """One word for each request: the numbers seen, "sound", or "MediaError"."""
    said = []
    for request in REQUESTS:
        try:
            got = answer(Source("m", path), [request])[request]
        except MediaError as error:
            assert str(path) in str(error)
            said.append("MediaError")
            continue
        if isinstance(request, Wave):
            assert got.shape == (round(request.seconds * 16000),) and got.isfinite().all() and got.abs().max() <= 1
            said.append("sound")
        else:
            assert got.shape == (3, 3, HEIGHT, WIDTH)
            said.append(",".join(str(number_in(frame)) for frame in got.permute(0, 2, 3, 1).numpy()))
    try:
        with open_media(path) as container:
            stream = picture_stream(container)
            if stream is not None:
                display_size(stream)
    except MediaError:
        pass
    return said


def run_child(folder: Path, files: list[Path]) -> dict[str, list[str]]:
    """`read_rows` of each file in one child process; restarted after a file that kills it."""
    limit = SECONDS_A_FILE * len(files)
    done = subprocess.run(
        [sys.executable, "-m", "tests.test_mutated_media", *map(str, files)],
        capture_output=True,
        text=True,
        timeout=limit,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[1])},
        check=False,
    )
    assert done.returncode == 0, f"the reader died with {done.returncode} after:\n{done.stdout[-500:]}\n{done.stderr[-2000:]}"
    return {line.split("\t")[0]: line.split("\t")[1:] for line in done.stdout.splitlines()}


def check_damaged(folder: Path, whole: list[Path], count: int) -> None:
    damaged = []
    for number in range(count):
        source = whole[number % len(whole)]
        path = folder / f"{number:04d}_{source.name}"
        path.write_bytes(mutated(source.read_bytes(), number))
        damaged.append(path)
    truth = run_child(folder, whole)
    assert not any("MediaError" in said[0] for said in truth.values()), truth
    rows = run_child(folder, damaged)
    assert len(rows) == count
    errors = sum(word == "MediaError" for said in rows.values() for word in said)
    given, strangers = 0, []
    for name, said in rows.items():
        right = truth[str(folder / "whole" / Path(name).name[5:])][0]
        if said[0] == "MediaError" or "-1" in right:
            continue  # a film without numbers
        given += 1
        for seen, there in zip(said[0].split(","), right.split(","), strict=True):
            if seen != "-1" and abs(int(seen) - int(there)) > 12:
                strangers.append((name, said, right))
    assert len(strangers) <= max(2, given // 12) and all(int(s[0].split(",")[-1]) < 80 for _, s, _ in strangers), strangers
    assert errors >= count // 10 and given >= count // 10, (
        f"{errors} errors, {given} rows in {count} files: the damage is too mild or too great"
    )


def test_damaged_files(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    check_damaged(tmp_path, made_files(tmp_path / "whole"), 44)


@pytest.mark.slow
def test_three_hundred_damaged_files(tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    check_damaged(tmp_path, made_files(tmp_path / "whole"), 330)


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        print(argument, *read_rows(Path(argument)), sep="\t", flush=True)
