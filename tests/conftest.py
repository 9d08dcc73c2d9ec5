"""What every test shares: no network, one thread for each library, a cache of its own, and the real clips where they exist."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

# Before the first import of the libraries that read them.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["MPLBACKEND"] = "Agg"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
# One thread: the same sums in the same order on every machine, and no fight between the tests and the workers they start.
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENCV_FOR_THREADS_NUM"):
    os.environ.setdefault(_name, "1")

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Point every cache at a folder of this test session (child processes included), so that no test sees another run's."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MMSSL_CACHE", str(folder))
        patch.setenv("MPLCONFIGDIR", str(folder / "matplotlib"))
        yield folder


@pytest.fixture(scope="session")
def media() -> Path:
    """The folder of real clips: `$MMSSL_MEDIA`, else `../shared/media` beside the project."""
    folder = Path(os.environ.get("MMSSL_MEDIA") or ROOT.parent / "shared" / "media")
    if not folder.is_dir():
        pytest.skip(f"no real clips at {folder}; set MMSSL_MEDIA to the folder that holds grid/, web/, odd/ ...")
    return folder


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A toy world of 24 short clips (1.6 s, 64 px): the folder of its videos. Do not write into it."""
    from mmssl.data.toyworld import PRESETS, make_toyworld

    folder = tmp_path_factory.mktemp("world") / "toy"
    small = dataclasses.replace(PRESETS["easy"], size=64, seconds=1.6, muted=0.125)
    return make_toyworld(folder, clips=24, seed=5, difficulty=small, workers=1, progress=False)
