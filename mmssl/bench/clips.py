"""The media of the benchmarks, made once and kept in the cache: H.264 with B-frames and AAC stereo, busy enough to be honest.

Textures slide, a few discs bounce, and the camera adds noise: harder to decode than most web video of the same size. Real clips can be
named beside them.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import av
import cv2
import numpy as np

from mmssl.data.cache import cache_folder
from mmssl.files import make_aside
from mmssl.rng import Purpose, rng_for
from mmssl.types import InputError

FPS, RATE = 25, 44_100
VERSION = 2  # of the rendering below: part of the cached files' names
CRF = "23"
SIZES = {"240p": (320, 240), "360p": (640, 360)}
LENGTHS = {"240p": 10, "360p": 60}  # seconds: a cut-out clip, and a minute of a longer film
QUICK = 4
GOPS = (12, 250)
NOISE = 5.0  # grey levels; gives about 2.2 Mb/s at 640x360


class Clip(NamedTuple):
    """One file of the benchmarks."""

    name: str
    path: Path
    fps: float
    width: int
    height: int
    seconds: float

    @property
    def small(self) -> tuple[int, int]:
        """(height, width) with the short side at 128 pixels."""
        scale = 128 / min(self.width, self.height)
        return round(self.height * scale), round(self.width * scale)


def made_clips(*, quick: bool = False) -> list[Clip]:
    """One clip for each size and GOP length, made on first use; a few seconds each where quick."""
    clips: list[Clip] = []
    for size, (width, height) in SIZES.items():
        seconds = QUICK if quick else LENGTHS[size]
        for gop in GOPS:
            path = cache_folder() / "bench" / f"v{VERSION}-{size}-gop{gop}-{seconds}s.mp4"
            if not path.is_file():
                make_aside(path, partial(write, width=width, height=height, gop=gop, seconds=seconds))
            clips.append(Clip(f"{size} {seconds} s GOP {gop}", path, FPS, width, height, seconds))
    return clips


def short_clips(count: int, *, width: int = 320, height: int = 240, seconds: float = 6.0) -> Path:
    """A folder of `count` clips, GOP 12: a small corpus for the loader."""
    folder = cache_folder() / "bench" / f"v{VERSION}-corpus-{count}x{seconds:g}s-{width}x{height}"
    for number in range(count):
        path = folder / f"clip{number:03d}.mp4"
        if not path.is_file():
            make_aside(path, partial(write, width=width, height=height, gop=12, seconds=seconds, seed=number))
    return folder


def real_clips(folder: Path, *, at_most: int) -> list[Clip]:
    """The first clips of a folder, by name, that have picture and sound and last 4 s or more.

    Raises:
        InputError: the folder is not there, or has no such clip.
    """
    from mmssl.data.index import open_corpus

    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}; give one that holds video files, or leave --media away")
    fitting = (s for s in open_corpus(folder) if s.video and s.audio and s.video.overlap(s.audio).seconds >= 4 and s.fps > 0)
    clips = [
        Clip(s.id, s.path, s.fps, s.width, s.height, s.video.overlap(s.audio).end)
        for s, _ in zip(fitting, range(at_most), strict=False)
        if s.video and s.audio
    ]
    if not clips:
        raise InputError(
            f"{folder} has no clip with picture and sound that lasts 4 s; give another folder, or leave --media away"
        )
    return clips


def write(path: Path, width: int, height: int, *, gop: int, seconds: float, seed: int = 0) -> None:
    """Render and encode one clip."""
    options = {
        "crf": CRF,
        "preset": "medium",
        "threads": "1",
        "x264-params": f"keyint={gop}:min-keyint={gop}:scenecut=0:bframes=3",
    }
    with av.open(str(path), "w") as container:
        picture = container.add_stream("libx264", rate=FPS, options=options)
        picture.width, picture.height, picture.pix_fmt = width, height, "yuv420p"
        sound = container.add_stream("aac", rate=RATE, layout="stereo")
        wave = _sound(seconds, seed)
        for number, pixels in enumerate(_pictures(width, height, round(seconds * FPS), seed)):
            container.mux(picture.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
            part = wave[:, number * RATE // FPS : (number + 1) * RATE // FPS]
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(part), format="fltp", layout="stereo")
            frame.sample_rate, frame.pts = RATE, number * RATE // FPS
            container.mux(sound.encode(frame))
        for stream in (picture, sound):
            container.mux(stream.encode(None))


def _pictures(width: int, height: int, count: int, seed: int) -> Iterator[np.ndarray]:
    rng = rng_for(seed, Purpose.WORLD, "bench", width, height)
    texture = cv2.GaussianBlur(rng.uniform(0, 255, (2 * height, 2 * width, 3)).astype(np.float32), (0, 0), 2.5)
    texture = cv2.normalize(texture, None, 20, 235, cv2.NORM_MINMAX)  # pyright: ignore[reportArgumentType, reportCallIssue]
    noise = rng.normal(0, NOISE, (8, height, width, 1)).astype(np.float32)  # eight pictures of noise, shown in turn and shifted
    places = rng.uniform(0, 1, (5, 2))
    speeds = rng.uniform(-0.02, 0.02, (5, 2))
    colours = rng.uniform(0, 255, (5, 3))
    for number in range(count):
        x, y = int(width * (0.5 + 0.5 * np.sin(number / 40))), int(height * (0.5 + 0.5 * np.cos(number / 55)))
        picture = texture[y : y + height, x : x + width].copy()
        for place, speed, colour in zip(places, speeds, colours, strict=True):
            there = np.abs((place + number * speed) % 2 - 1)  # to and fro between the edges
            centre = (int(there[0] * width), int(there[1] * height))
            cv2.circle(picture, centre, height // 8, tuple(float(value) for value in colour), -1)
        grain = np.roll(noise[number % len(noise)], (number * 37) % width, axis=1)
        yield np.clip(picture + grain, 0, 255).astype(np.uint8)


def _sound(seconds: float, seed: int) -> np.ndarray:
    """Float32 (2, samples): a gliding tone on each side, and noise."""
    rng = rng_for(seed, Purpose.WORLD, "bench sound")
    moments = np.arange(round(seconds * RATE)) / RATE
    sides = [np.sin(2 * np.pi * (low + 40 * np.sin(moments)) * moments) for low in (330.0, 440.0)]
    return (0.3 * np.stack(sides) + 0.02 * rng.normal(size=(2, len(moments)))).astype(np.float32)
