"""Stored flow says what computing says: for the same pairs of pictures, in the same pixels, and nothing where it cannot know."""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch

from mmssl.data import stored_flow as module
from mmssl.data.decode import answer
from mmssl.data.stored_flow import NEAR, PER_PIXEL, TICK, schedule, store_flow
from mmssl.types import Box, Flow, Frames, MediaError, Source, StoredFlow
from tests.media_makers import make_film
from tests.test_flow import make_pan

STEP = 0.2


@pytest.fixture(scope="module")
def pan(tmp_path_factory) -> Source:
    """A pan by (3, 1) pixels a frame of 0.1 s, with its flow."""
    film = make_pan(tmp_path_factory.mktemp("pan") / "pan.mp4")
    target = film.path.with_suffix(".flow")
    assert store_flow(film.path, target, step=STEP, method="dis") == 12
    return replace(film, flow=StoredFlow(target, STEP, "dis"))


def both(film: Source, request: Flow) -> tuple[torch.Tensor, torch.Tensor]:
    """(from the store, computed)"""
    return answer(film, [request])[request].float(), answer(replace(film, flow=None), [request])[request].float()


@pytest.fixture
def never_computed(monkeypatch):
    from mmssl.data import flow as flows

    def refuse(*_: object) -> None:
        raise AssertionError("flow was computed")

    monkeypatch.setattr(flows, "estimate", refuse)


def test_the_whole_picture_is_what_was_computed_but_for_rounding(pan):
    request = Flow((0.0, 0.13, 0.55, 0.9, 1.05), STEP, (96, 128))
    stored, computed = both(pan, request)
    assert stored.dtype == computed.dtype and stored.shape == computed.shape == (5, 2, 96, 128)
    assert (stored - computed).abs().max() <= 0.5 / PER_PIXEL + 0.01  # float16 of up to 8 pixels


@pytest.mark.parametrize("box", [None, Box(0.25, 0.25, 0.5, 0.5), Box(0.0, 0.25, 0.75, 0.5)])
@pytest.mark.parametrize("size", [32, (48, 64), (60, 40), 112])
def test_boxes_and_sizes_scale_the_vectors(pan, box, size):
    request = Flow((0.1, 0.5), STEP, size, box)
    stored, computed = both(pan, request)
    assert stored.shape == computed.shape
    middle = (..., slice(stored.shape[2] // 4, -stored.shape[2] // 4), slice(stored.shape[3] // 4, -stored.shape[3] // 4))
    one, other = (field[middle].flatten(2).median(2).values for field in (stored, computed))
    assert (one - other).abs().max() < 0.1
    height, width = (size, size) if isinstance(size, int) else size
    if box is not None:  # exact: 6 pixels right and 2 down of 96 x 128
        truth = torch.tensor([6 * width / (128 * box.width), 2 * height / (96 * box.height)])
        assert (one - truth).abs().max() < 0.15


def test_other_steps_and_methods_are_computed(pan, monkeypatch):
    asked = []
    real = module.answer_stored
    monkeypatch.setattr(module, "answer_stored", lambda stored, flow: asked.append(flow) or real(stored, flow))
    same, longer = Flow((0.1,), STEP, 32), Flow((0.1,), 2 * STEP, 32)
    found = answer(pan, [same, longer])
    assert asked == [same]
    assert torch.equal(found[longer], answer(replace(pan, flow=None), [longer])[longer])
    assert found[longer].float().median() > 1.5 * found[same].float().median() > 0.5
    before = Flow((-0.05, 0.1), STEP, 32)
    assert torch.equal(*both(pan, before)) and asked == [same]
    raft = replace(pan, flow=StoredFlow(pan.flow.path, STEP, "raft"))  # type: ignore[union-attr]
    assert torch.equal(answer(raft, [same])[same], answer(replace(pan, flow=None), [same])[same])


def test_nothing_is_computed_where_it_is_stored(pan, never_computed):
    flow, frames = Flow((0.1, 0.4), STEP, 32), Frames((0.1,), 32)
    found = answer(pan, [frames, flow])
    assert found[frames].shape == (1, 3, 32, 32) and found[flow].float().abs().max() > 1
    with pytest.raises(AssertionError, match="computed"):
        answer(replace(pan, flow=None), [flow])


def test_the_end_is_that_of_the_pictures(pan):
    for time, inside in ((1.0, True), (1.09, True), (1.12, False)):  # the picture ends at 1.2 s, and 0.1 s are forgiven
        request = Flow((time,), STEP, 32)
        for film in (pan, replace(pan, flow=None)):
            if inside:
                assert answer(film, [request])[request].shape == (1, 2, 32, 32)
            else:
                with pytest.raises(MediaError, match=r"ends at 1\.2"):
                    answer(film, [request])


@pytest.mark.parametrize(
    "options",
    [
        {"rate": Fraction(25)},
        {"rate": Fraction(30)},
        {"rate": Fraction(30000, 1001)},
        {"pts": [n * n for n in range(30)], "time_base": Fraction(1, 600), "frames": 30},
    ],
)
def test_every_moment_has_its_own_pair_of_pictures(tmp_path, monkeypatch, options):
    """A stand-in for flow that tells which two pictures it was made from."""
    from mmssl.data import flow as flows
    from tests.media_makers import numbers_in

    def told(pairs, method="dis"):
        seen = [[numbers_in(torch.from_numpy(one.copy()).permute(2, 0, 1)[None])[0] for one in pair] for pair in pairs]
        return [np.full((*pair[0].shape[:2], 2), numbers, np.float32) for pair, numbers in zip(pairs, seen, strict=True)]

    monkeypatch.setattr(module, "estimate", told)
    monkeypatch.setattr(module, "shrink", lambda field, height, width: field[:height, :width])
    monkeypatch.setattr(flows, "estimate", told)
    monkeypatch.setattr(flows, "shrink", lambda field, height, width: field[:height, :width])
    stamps = make_film(tmp_path / "film.mp4", **options)
    target = tmp_path / "film.flow"
    store_flow(tmp_path / "film.mp4", target, step=0.08, method="dis")
    film = Source("film", tmp_path / "film.mp4", flow=StoredFlow(target, 0.08, "dis"))
    last = stamps[-1] - stamps[0] - 0.08
    times = tuple(sorted([0.0, *np.random.default_rng(0).uniform(0.0, last, 60).tolist()]))
    request = Flow(times, 0.08, (64, 96))
    stored, computed = both(film, request)
    assert len(torch.unique(computed)) > 15
    assert torch.equal(stored, computed)


def test_pairs_change_where_either_picture_does():
    ticks = [round(number / 25 / TICK) for number in range(20)]
    assert [tuple(part) for part in schedule(ticks, 0.8, 0.08)[:3]] == [(0, 0, 2), (3600, 1, 3), (7200, 2, 4)]
    assert len(schedule(ticks, 0.8, 0.08)) == 20  # to 0.1 s past the end, less the step
    rng = np.random.default_rng(0)
    for step in (0.08, 0.0333, 0.5, 0.004):
        stamps = np.cumsum(rng.integers(1500, 6000, 60)).tolist()
        end = stamps[-1] * float(TICK) + 0.04
        parts = schedule(stamps, end, step)
        starts = [part.tick for part in parts]
        changes = [*stamps, *(stamp - step / TICK for stamp in stamps)]
        for tick in rng.integers(0, starts[-1], 300).tolist():
            if min(abs(tick - change) for change in changes) <= NEAR + 1:
                continue
            part = parts[bisect_right(starts, tick) - 1]
            first, second = (max(0, bisect_right(stamps, tick + later) - 1) for later in (0, step / TICK))
            assert (part.first, part.second) == (first, second)
    assert schedule(ticks[:2], 0.08, 0.5) == []


def test_damage_is_an_error(pan, tmp_path):
    whole = pan.flow.path.read_bytes()  # type: ignore[union-attr]
    request = Flow((0.1, 0.5, 0.9), STEP, 32)

    def ask(content: bytes | None, **changes: object) -> None:
        path = tmp_path / "x.flow"
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_bytes(content)
        answer(replace(pan, flow=StoredFlow(**{"path": path, "step": STEP, "method": "dis", **changes})), [request])

    ask(whole)
    for bad, match in (
        (None, "No such file"),
        (b"dear friend" * 100, "cannot be opened"),
        (whole[: len(whole) // 2], "cannot be opened"),
        (pan.path.read_bytes(), "no flow that mmssl stored"),
    ):
        with pytest.raises(MediaError, match=match):
            ask(bad)
    with pytest.raises(MediaError, match="method sid"):
        ask(whole.replace(b'"method": "dis"', b'"method": "sid"'))
    start = whole.find(b"mdat") + 8
    spoiled = 0
    for place in np.random.default_rng(0).integers(start, whole.find(b"moov") - 8, 12).tolist():
        hurt = bytearray(whole)
        hurt[place] ^= 0x55
        try:
            ask(bytes(hurt))
        except MediaError:
            spoiled += 1
    assert spoiled >= 2  # three of twelve fields are read


def test_a_shown_field_is_never_a_damaged_one(pan, tmp_path):
    """Any one byte of a field's packet: an error, or the very same answer."""
    import av

    with av.open(str(pan.flow.path)) as container:  # type: ignore[union-attr]
        packet = next(p for p in container.demux(video=0) if p.size and math.isclose(p.pts * p.time_base, 0.5, abs_tol=1e-6))
        position, size = packet.pos, packet.size
    whole = pan.flow.path.read_bytes()  # type: ignore[union-attr]
    request = Flow((0.52,), STEP, 32)
    good = answer(pan, [request])[request]
    path, errors = tmp_path / "x.flow", 0
    for place in np.random.default_rng(1).integers(0, size, 25).tolist():
        hurt = bytearray(whole)
        hurt[position + place] ^= 0x10
        path.write_bytes(bytes(hurt))
        try:
            assert torch.equal(answer(replace(pan, flow=StoredFlow(path, STEP, "dis")), [request])[request], good)
        except MediaError:
            errors += 1
    assert errors >= 20


def test_too_short_a_film_has_none(tmp_path):
    film = make_pan(tmp_path / "pan.mp4", frames=2)
    assert store_flow(film.path, tmp_path / "pan.flow", step=0.5, method="dis") == 0
    assert not (tmp_path / "pan.flow").exists()
