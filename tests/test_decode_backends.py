"""decord and torchcodec behind the same function: the same frames and sounds where they can."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from mmssl.data.decode import answer
from mmssl.types import Backend, Frames, InputError, MediaError, Source, Wave
from tests.media_makers import make_film, make_flash_and_click, numbers_in
from tests.test_decode_sound import onset

X264 = {"preset": "ultrafast", "bf": "2", "g": "12"}


def usable(backend: Backend, path: Path) -> None:
    try:
        answer(Source("x", path), [Frames((0.0,), 8)], backend=backend)
    except InputError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("backend", ["decord", "torchcodec"])
def test_they_give_the_same_pixels(backend: Backend, tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    make_film(path, options=X264)
    usable(backend, path)
    request = Frames((0.0, 0.41, 1.999, 3.97), (64, 96))
    here, there = (answer(Source("a", path), [request], backend=b)[request] for b in ("pyav", backend))
    assert numbers_in(there) == [0, 10, 49, 99]
    assert np.array_equal(here.numpy(), there.numpy())
    with pytest.raises(MediaError, match="ends at"):
        answer(Source("a", path), [Frames((4.5,), 8)], backend=backend)


@pytest.mark.parametrize("backend", ["decord", "torchcodec"])
def test_they_give_the_same_sound(backend: Backend, tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    make_flash_and_click(path, video="libx264", audio="aac", events=(1.0, 3.0), options=X264)
    usable(backend, path)
    wave = Wave(2.85, 0.5, 16000)
    here, there = (answer(Source("a", path), [wave], backend=b)[wave].numpy() for b in ("pyav", backend))
    assert len(here) == len(there) == 8000
    assert onset(there, 16000) == pytest.approx(onset(here, 16000), abs=0.0003)
    with pytest.raises(MediaError, match="ends"):
        answer(Source("a", path), [Wave(5.8, 1.0, 16000)], backend=backend)


@pytest.mark.parametrize(("backend", "module"), [("decord", "decord"), ("torchcodec", "torchcodec.decoders")])
def test_a_missing_backend_says_how_to_get_it(
    backend: Backend, module: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InputError, match="pip install"):
        answer(Source("a", tmp_path / "none.mp4"), [Frames((0.0,), 8)], backend=backend)


def test_torchcodec_without_ffmpeg_is_no_fault_of_the_film(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """From version 0.14 or so it imports without FFmpeg's libraries, and fails when it is used: every film was rejected as damaged."""

    def cannot_load(*_: object, **__: object) -> None:
        raise RuntimeError("Could not load libtorchcodec. Likely causes: ...")

    monkeypatch.setitem(sys.modules, "torchcodec.decoders", SimpleNamespace(VideoDecoder=cannot_load, AudioDecoder=cannot_load))
    monkeypatch.setitem(sys.modules, "torchcodec", SimpleNamespace())
    path = tmp_path / "a.mp4"
    make_film(path, options=X264)
    for request in (Frames((0.0,), 8), Wave(0.0, 1.0, 16000)):
        with pytest.raises(InputError, match="FFmpeg's shared libraries"):
            answer(Source("a", path), [request], backend="torchcodec")


def test_an_unknown_backend_and_requests_without_sense(tmp_path: Path) -> None:
    source = Source("a", tmp_path / "none.mp4")
    with pytest.raises(InputError, match="known: pyav, decord, torchcodec"):
        answer(source, [Frames((0.0,), 8)], backend="opencv")  # type: ignore[arg-type]
    with pytest.raises(MediaError, match=r"none\.mp4: cannot be opened"):
        answer(source, [Frames((0.0,), 8)])
    assert answer(source, []) == {}
    for request in (
        Wave(0, 0, 16000),
        Wave(float("nan"), 1, 16000),
        Wave(0, 1, 0),
        Frames((), 8),
        Frames((0.0,), 0),
        Frames((float("inf"),), 8),
    ):
        with pytest.raises(InputError):
            answer(source, [request])
