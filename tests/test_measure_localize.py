"""The tool that measures localization's options: its tables on clips with the planted link, and what it takes for a hit."""

import importlib.util
import itertools
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.fake_world import fake_pairing

TOOL = Path(__file__).resolve().parents[1] / "tools" / "measure_localize.py"
spec = importlib.util.spec_from_file_location("measure_localize", TOOL)
assert spec is not None and spec.loader is not None
tool = importlib.util.module_from_spec(spec)
sys.modules["measure_localize"] = tool  # dataclasses look their module up
spec.loader.exec_module(tool)


def test_tables_of_toy_clips(toy):
    pairing, found = fake_pairing(seconds=0.6), tool.Measured("fakes")
    films = [tool.encode(pairing, path) for path in sorted(toy.rglob("*.mp4"))[:6]]
    for before, film in itertools.pairwise(films):
        tool.stereo(found.stereo, film, pairing)
        tool.smoothing(found.smoothing, film, before, pairing, 0.8)
    assert set(found.stereo) == {"`--stereo ignore`", "`--stereo use`", "use - ignore"}
    gain = np.subtract(found.stereo["`--stereo use`"]["pointing"], found.stereo["`--stereo ignore`"]["pointing"])
    assert found.stereo["use - ignore"]["pointing"] == pytest.approx(gain.tolist())
    assert list(found.smoothing) == ["0 s", "0.5 s", "1 s", "2 s"]
    text = tool.page([found], 6)
    assert "| `--stereo use` |" in text
    assert "## fakes" in text


def test_two_planted_sources_are_found_where_they_are(toy):
    """Labels, cells and sounds made by hand: object 0 answers the first sound, object 1 the second."""
    film = tool.encode(fake_pairing(seconds=0.6), sorted(toy.rglob("*.mp4"))[0])
    moments, (height, width) = len(film.times), film.cells.shape[1:3]
    labels = np.zeros_like(film.truth.labels)
    labels[:, 8:24, 8:24], labels[:, 40:56, 40:56] = 1, 2
    film.cells = np.zeros((moments, height, width, 4), np.float32)
    film.cells[..., 2] = 1
    film.cells[:, 1:3, 1:3] = film.cells[:, 5:7, 5:7] = 0
    film.cells[:, 1:3, 1:3, 0] = film.cells[:, 5:7, 5:7, 1] = 1
    film.sounds = np.eye(4, dtype=np.float32)[[k % 2 for k in range(moments)]]
    assert tool._body(labels[0], (1, 2), (height, width)) == 0
    assert tool._body(labels[0], (6, 5), (height, width)) == 1
    assert tool._body(labels[0], (4, 4), (height, width)) == -1
    centres = tool.sound_clusters(film.sounds)
    peaks = {tool._peak(film.cells[0] @ centre) for centre in centres}
    assert {tool._body(labels[0], peak, (height, width)) for peak in peaks} == {0, 1}
