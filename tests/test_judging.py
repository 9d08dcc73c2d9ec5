"""Judging row by row on held-out sources: every source once, cuts of a source as one unit, broken files counted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from mmssl.downstream.evaluation_table import evaluation_tables
from mmssl.downstream.judging import judge
from mmssl.encoders.bank import EncoderBank
from mmssl.objectives.base import Batch, Judged, Objective
from mmssl.types import Frames, InputError, Loss, Modality, Plan, Source, Span, Views
from tests.fake_world import ColourEncoder, squares, tone, write_film


@dataclass(frozen=True, slots=True)
class OneFrame(Views):
    def reject(self, source: Source) -> str | None:
        return None if source.has_video else "no picture"

    def plan(self, source: Source, rng: np.random.Generator) -> Plan:
        return Plan({"video": Frames((float(rng.uniform(0, 0.9)),), 64)}, {"coin": int(rng.integers(2))})


class IsRed(Objective):
    """Says whether the picture is red; right where the source's number is even."""

    roles: ClassVar[Mapping[str, tuple[Modality, ...]]] = {"video": ("frame",)}
    views = OneFrame()

    def forward(self, batch: Batch, bank: EncoderBank) -> Loss:
        raise NotImplementedError

    def judge(self, batch: Batch, bank: EncoderBank) -> Mapping[str, Judged]:
        pooled = bank.encode("video", batch["video"]).pooled
        red = pooled[:, 0] > pooled[:, 1]
        return {
            "accuracy": Judged((red == (batch["source"] % 2 == 0)).float(), 0.5),
            "coin": Judged(batch["coin"].float(), 0.5),
            "pooled": Judged(pooled * 10 + 5),
        }


class Numbered(IsRed):
    """Embeds pictures and an imagined second role by the source's number: `right` says whether both agree."""

    def __init__(self, right: bool) -> None:
        super().__init__()
        self.right = right

    def joint(self, batch: Batch, bank: EncoderBank) -> Mapping[str, Tensor]:
        own = torch.nn.functional.one_hot(batch["source"], 32).float()
        return {"video": own, "text": own if self.right else torch.zeros_like(own)}


def films(folder, count: int, broken: tuple[int, ...] = ()) -> list[Source]:
    sources = []
    for i in range(count):
        red = i % 2 == 0
        path = write_film(
            folder / f"{i:03d}.mp4",
            lambda t, red=red: squares((30, 30), None) if red else squares(None, (30, 30)),
            tone(400.0, 1.0),
            seconds=1.0,
        )
        if i in broken:
            path.write_bytes(path.read_bytes()[:200])
        sources.append(Source(f"{i:03d}", path, 10.0, 64, 64, Span(0, 1), Span(0, 1)))
    return sources


def judged(sources, objective=None, **options):
    objective = (objective or IsRed()).eval()
    return judge({"red": objective}, {"red": objective.views}, {"video": ColourEncoder()}, sources, seed=3, workers=0, **options)[
        "red"
    ]


def test_each_source_is_judged_and_counts_once(tmp_path):
    """21 sources are a batch of 16 and one that wraps round: what comes twice must not count twice."""
    told, planned = [], []
    found = judged(films(tmp_path, 21), on_source=told.append, on_plan=planned.append)
    assert found["sources"] == 21 and sum(told) == 21 and planned == [21]
    assert found["cuts_of_each"] == 10
    entry = found["judged"]["accuracy"]
    assert entry["n"] == 21 and entry["chance"] == 0.5
    # The order of the drawn sources decides which are red, so right and wrong both occur; the mean over sources is exact.
    assert (entry["value"] * 21) == pytest.approx(round(entry["value"] * 21))
    coin = found["judged"]["coin"]
    assert coin["low"] < 0.5 < coin["high"] and 0.3 < coin["value"] < 0.7
    assert "chance" not in found["judged"]["pooled"] and found["judged"]["pooled"]["value"] > 1.0  # no proportion


def test_a_chance_that_differs_between_batches_is_their_mean_by_rows(tmp_path):
    class Relative(IsRed):
        seen: ClassVar[list[float]] = []

        def judge(self, batch: Batch, bank: EncoderBank) -> Mapping[str, Judged]:
            self.seen.append(len(self.seen) / 4)
            return {"hits": Judged(torch.ones(len(batch["source"])), self.seen[-1])}

    found = judged(films(tmp_path, 21), Relative())
    assert Relative.seen == [0.0, 0.25]
    assert found["judged"]["hits"]["chance"] == pytest.approx((16 * 0.0 + 5 * 0.25) / 21)


def test_the_same_seed_judges_the_same_cuts(tmp_path):
    sources = films(tmp_path, 5)
    assert judged(sources) == judged(sources)


def test_broken_films_are_counted_not_judged(tmp_path):
    found = judged(films(tmp_path, 6, broken=(2,)))
    assert found["sources"] == 5
    assert sum(found["failed"].values()) > 0


def test_no_usable_source_is_bad_input(tmp_path):
    with pytest.raises(InputError, match="none of 1 held-out"):
        judged([Source("a", tmp_path / "a.mp4")])


@pytest.mark.parametrize(("right", "recall", "rank"), [(True, 1.0, 1.0), (False, 1 / 21, 11.0)])
def test_a_shared_space_is_judged_by_retrieval_among_all_sources(tmp_path, right, recall, rank):
    """Not among a batch; constant embeddings score chance, and the last batch, which wraps round, brings nothing twice."""
    found = judged(films(tmp_path, 21), Numbered(right))["retrieval"]
    assert found["gallery"] == 21
    for way in ("video_to_text", "text_to_video"):
        assert found[way]["R@1"]["value"] == pytest.approx(recall) and found[way]["R@1"]["chance"] == pytest.approx(1 / 21)
        assert found[way]["median_rank"]["value"] == pytest.approx(rank)
    (table,) = evaluation_tables({"objectives": {"red": judged(films(tmp_path, 21), Numbered(right))}})
    assert "picture to caption, R@1 of 21" in list(table.columns[0].cells)


def test_the_table_shows_what_was_judged(tmp_path):
    found = judged(films(tmp_path, 3))
    (table,) = evaluation_tables({"objectives": {"red": found}})
    assert list(table.columns[0].cells) == ["accuracy", "coin", "pooled"]
    assert list(table.columns[4].cells) == ["chance 0.500", "chance 0.500", ""]
