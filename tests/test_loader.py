import os
import shutil
import signal
import time
from dataclasses import dataclass

import pytest
import torch

from mmssl.data.index import open_corpus
from mmssl.data.loader import Loader
from mmssl.data.stream import Stream
from mmssl.types import Frames, InputError, Plan, Views, Wave


@dataclass(frozen=True)
class Cut(Views):
    frames: int = 1

    def reject(self, source):
        return None

    def plan(self, source, rng):
        start = float(rng.uniform(0, 0.8))
        return Plan(
            {"video": Frames((start,) * self.frames, 16), "audio": Wave(start, 0.25, 8000)},
            {"coin": int(rng.integers(2)), "share": 0.5},
        )


@dataclass(frozen=True)
class DieOnce(Cut):
    """Kills the worker that cuts, as the system does when memory runs out."""

    def plan(self, source, rng):
        if os.environ.get("MMSSL_TEST_PARENT") != str(os.getpid()):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().plan(source, rng)


@pytest.fixture(scope="module")
def corpus(toy):
    return open_corpus(toy, progress=False)


def streams(corpus, **more):
    return [
        Stream(corpus, {"a": Cut(), "b": Cut(), "c": Cut(frames=2)}, seed=3, index=0, batch=8, **more),
        Stream(corpus, {"d": Cut()}, seed=3, index=1, batch=4),
    ]


def flat(loader, start, stop):
    return [(micro, step.replaced) for step in loader.steps(start, stop) for micro in step.micro]


def same(one, two):
    assert one.keys() == two.keys()
    for name in one:
        for key in one[name]:
            assert torch.equal(one[name][key], two[name][key]), (name, key)


def test_batches_have_rows_labels_and_sources(corpus):
    loader = Loader(streams(corpus), accumulate=2)
    step = next(loader.steps(0, 1))
    assert len(step.micro) == 2
    micro = step.micro[0]
    assert micro["a"]["video"].shape == (8, 1, 3, 16, 16)
    assert micro["c"]["video"].shape == (8, 2, 3, 16, 16)
    assert micro["d"]["audio"].shape == (4, 2000)
    assert micro["a"]["source"].dtype == micro["a"]["coin"].dtype == torch.int64
    assert micro["a"]["share"].dtype == torch.float64
    assert micro["a"]["video"] is micro["b"]["video"]
    assert micro["a"]["video"] is not micro["c"]["video"]
    assert loader.rows == 12


def test_rows_do_not_depend_on_workers_ranks_or_where_the_run_began(corpus):
    whole = flat(Loader(streams(corpus), accumulate=2), 0, 4)
    late = flat(Loader(streams(corpus), accumulate=2), 2, 4)
    with_workers = Loader(streams(corpus), accumulate=2, workers=2)
    for (one, _), (two, _) in zip(whole[4:], late, strict=True):
        same(one, two)
    for _ in range(2):  # twice: persistent workers serve a second call as well
        for (one, _), (two, _) in zip(whole, flat(with_workers, 0, 4), strict=True):
            same(one, two)
        batch = flat(with_workers, 1, 2)[0][0]
        assert batch["a"]["video"] is batch["b"]["video"]  # still one tensor after the trip between processes
    with_workers.close()
    ranks = [flat(Loader(streams(corpus), accumulate=2, rank=rank, world=2), 0, 4) for rank in range(2)]
    for number, (one, _) in enumerate(whole):
        for name in one:
            for key in one[name]:
                joined = torch.stack([ranks[rank][number][0][name][key] for rank in range(2)], 1).flatten(0, 1)
                assert torch.equal(one[name][key], joined)


def test_ranks_must_share_equally(corpus):
    with pytest.raises(InputError, match="multiple of 3"):
        Loader(streams(corpus), world=3)


def test_broken_files_are_counted_and_bounded(toy, tmp_path):
    folder = tmp_path / "clips"
    shutil.copytree(toy, folder)
    manifest = open_corpus(folder, progress=False)
    for k in (2, 7):
        source = manifest[k]
        source.path.write_bytes(source.path.read_bytes()[:300])  # truncated after it was indexed
    stream = Stream(manifest, {"a": Cut()}, seed=0, batch=8)
    loader = Loader([stream], max_replaced=0.5)
    passes = [[reason for step in loader.steps(0, 3) for reason in step.replaced] for _ in range(2)]
    assert len(passes[0]) >= 2
    assert passes[0] == passes[1]
    assert all("clip_00000" in reason for reason in passes[0])
    strict = Loader([stream], max_replaced=0.01)
    with pytest.raises(InputError, match=r"had to be replaced in \d+ rows.*max_replaced = 1\.0%"):
        for _ in strict.steps(0, 60):
            pass


def test_a_killed_worker_is_reported_not_waited_for(corpus, monkeypatch):
    monkeypatch.setenv("MMSSL_TEST_PARENT", str(os.getpid()))
    loader = Loader([Stream(corpus, {"a": DieOnce()}, seed=0, batch=4)], workers=1)
    begin = time.monotonic()
    with pytest.raises(RuntimeError, match="worker"):
        next(loader.steps(0, 1))
    assert time.monotonic() - begin < 60
