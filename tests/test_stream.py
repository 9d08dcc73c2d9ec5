import pickle  # noqa: TID251  # what sends a stream to its workers
from dataclasses import dataclass

import numpy as np
import pytest
import torch

import mmssl.data.stream as stream_module
from mmssl.data.index import open_corpus
from mmssl.data.stream import Stream
from mmssl.types import Frames, InputError, MediaError, Plan, Views, Wave


@dataclass(frozen=True)
class Cut(Views):
    frames: int = 2
    longest: float = 100.0

    def reject(self, source):
        if not source.has_audio:
            return "no sound"
        return None if source.duration <= self.longest else f"longer than {self.longest} s"

    def plan(self, source, rng):
        start = float(rng.uniform(0, 1.0))
        return Plan(
            {"video": Frames((start,) * self.frames, 16), "audio": Wave(start, 0.5, 8000)}, {"coin": int(rng.integers(2))}
        )


@pytest.fixture(scope="module")
def corpus(toy):
    return open_corpus(toy, progress=False)


@pytest.fixture
def opened(monkeypatch):
    """Count the files that are opened, and answer without decoding."""
    calls = []

    def fake(source, requests, *, backend):
        calls.append((source.id, list(requests), backend))
        return {r: torch.zeros(2) for r in requests}

    monkeypatch.setattr(stream_module, "answer", fake)
    return calls


def test_one_open_for_all_objectives_of_a_row(corpus, opened):
    stream = Stream(corpus, {"a": Cut(), "b": Cut(frames=3), "c": Cut()}, seed=0, batch=8)
    sample = stream[3, 2]
    assert len(opened) == 1
    assert len(opened[0][1]) == 4  # a and c have equal views: their requests are one
    assert len(sample.cuts) == 1
    assert len(sample.cuts[0]) == 2
    assert stream.cut_of == {"a": 0, "b": 1, "c": 0}


def test_several_views_from_one_open(corpus, opened):
    stream = Stream(corpus, {"a": Cut()}, seed=0, batch=8, views_per_open=4)
    sample = stream[0, 1]
    assert len(opened) == 1
    assert len(sample.cuts) == 4
    assert len({request.start for request in opened[0][1] if isinstance(request, Wave)}) == 4
    with pytest.raises(InputError, match="multiple of views_per_open"):
        Stream(corpus, {"a": Cut()}, seed=0, batch=6, views_per_open=4)


def test_an_address_decides_everything_and_an_epoch_sees_each_source_once(corpus, opened):
    one = Stream(corpus, {"a": Cut()}, seed=0, batch=4)
    two = pickle.loads(pickle.dumps(Stream(corpus, {"a": Cut()}, seed=0, batch=4)))
    for address in [(5, 3), (0, 0), (5, 3), (2, 1)]:
        assert one[address].source == two[address].source
        assert one[address].cuts[0][0]["coin"] == two[address].cuts[0][0]["coin"]
    n = one.usable
    seen = [one[place // 4, place % 4].source for place in range(2 * n)]
    assert sorted(seen[:n]) == sorted(seen[n:]) == sorted(set(seen))
    assert seen[:n] != seen[n:]
    assert [Stream(corpus, {"a": Cut()}, seed=1, batch=4)[0, k].source for k in range(4)] != seen[:4]
    assert [Stream(corpus, {"a": Cut()}, seed=0, batch=4, ordered=True)[0, k].source for k in range(3)] == [0, 1, 2]


def test_a_broken_file_is_replaced_by_the_next_of_the_epoch_the_same_each_time(corpus, monkeypatch):
    broken = {corpus[3].id, corpus[4].id}

    def fake(source, requests, *, backend):
        if source.id in broken:
            raise MediaError(f"{source.id} is broken")
        return {r: torch.zeros(2) for r in requests}

    monkeypatch.setattr(stream_module, "answer", fake)
    stream = Stream(corpus, {"a": Cut()}, seed=0, batch=4, ordered=True)
    for _ in range(2):
        sample = stream[0, 3]
        assert sample.source == 5
        assert sample.replaced == (f"{corpus[3].id} is broken", f"{corpus[4].id} is broken")
    assert stream[0, 2].replaced == ()

    def dead(source, requests, *, backend):
        raise MediaError("all broken")

    monkeypatch.setattr(stream_module, "answer", dead)
    with pytest.raises(MediaError, match="20 files in a row could not be decoded; the last: all broken"):
        stream[0, 0]


def test_rejections_are_counted_by_objective_and_bounded(corpus):
    stream = Stream(corpus, {"a": Cut(), "b": Cut(longest=100.0), "c": Cut(longest=100.5)}, seed=0, batch=4)
    assert all(not reasons for reasons in stream.rejected.values())
    with pytest.raises(InputError, match=r"0 of 24 sources are usable.*b: longer than 0\.1 s 24\); choose other data or views$"):
        Stream(corpus, {"a": Cut(), "b": Cut(longest=0.1)}, seed=0, batch=4)
    with pytest.raises(InputError, match="no sources at all"):
        Stream(corpus[:0], {"a": Cut()}, seed=0, batch=4)
    with pytest.raises(InputError, match="no objectives"):
        Stream(corpus, {}, seed=0, batch=4)


def test_min_usable(corpus):
    mixed = [corpus[k] if k < 6 else type(corpus[k])(id=f"x{k}", path=corpus[k].path, video=corpus[k].video) for k in range(20)]
    with pytest.raises(
        InputError,
        match=r"6 of 20 sources are usable, the limit is 10 \(a: no sound 14\).*min_usable, a share of the sources, from 0\.5",
    ):
        Stream(mixed, {"a": Cut()}, seed=0, batch=4, min_usable=0.5)
    assert Stream(mixed, {"a": Cut()}, seed=0, batch=4, min_usable=0.3).usable == 6


def test_real_rows_have_the_asked_shapes(corpus):
    sample = Stream(corpus, {"a": Cut()}, seed=0, batch=4)[0, 0]
    cut = sample.cuts[0][0]
    assert cut["video"].shape == (2, 3, 16, 16)
    assert cut["video"].dtype == torch.uint8
    assert cut["audio"].shape == (4000,)
    assert cut["coin"] in (0, 1)
    assert np.isfinite(cut["audio"].numpy()).all()
