"""The objective of docs/writing-an-objective.md: it keeps the contract that every objective keeps, and learns only a link that is there."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import pytest
import torch

from mmssl.config import load_config
from mmssl.encoders.bank import EncoderBank
from mmssl.run import start_run
from mmssl.types import Source, Span
from mmssl.usage import evaluate_run
from tests import test_objectives as contract
from tests.page_blocks import ROOT, blocks_of

NAME = "mine.ambient_sound"


@pytest.fixture
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that the page gives, as a reader has it, and the module importable."""
    for block in blocks_of((ROOT / "docs" / "writing-an-objective.md").read_text(encoding="utf-8")):
        if block.mark == "file":
            (tmp_path / block.word).parent.mkdir(exist_ok=True)
            (tmp_path / block.word).write_text(block.text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("mine", NAME):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return tmp_path


def test_it_keeps_the_contract_of_objectives(there: Path) -> None:
    contract.test_arguments_are_keywords_with_types_that_a_schema_can_read(NAME)
    contract.test_forward_gives_a_finite_loss_gradients_everywhere_and_metrics_that_mean_something(NAME)
    contract.test_forward_is_pure_and_state_is_persistent(NAME)


def test_its_views_reject_what_cannot_serve(there: Path) -> None:
    views = contract.make(NAME)[0].views
    span = Span(0.0, 0.5)
    loud = (-20.0,) * 10
    assert views.reject(Source("a", Path("a"), video=Span(0.0, 9.0))) == "no sound"
    assert views.reject(Source("a", Path("a"), audio=Span(0.0, 9.0))) == "no picture"
    assert views.reject(Source("a", Path("a"), video=span, audio=span, loudness=loud)) == "shorter than 1 s"
    assert views.reject(Source("a", Path("a"), video=span, audio=span, loudness=(-90.0,) * 10)) == "silent"


def test_its_accuracy_is_that_of_loops(there: Path) -> None:
    objective, encoders = contract.make(NAME)
    batch = contract.planned_batch(objective, rows=5)
    batch["source"] = torch.tensor([0, 1, 2, 2, 3])
    objective.eval()
    with torch.no_grad():
        told = objective(batch, EncoderBank(encoders)).metrics["accuracy"].item()
        guess = objective.predict(encoders["video"](batch["video"]).pooled)
        spectrum = objective.listen(batch["audio"]).mean(1)
        truth = spectrum - spectrum.mean(1, keepdim=True)
    right: dict[int, list[float]] = {row: [] for row in range(5)}
    for i, j in itertools.permutations(range(5), 2):
        if batch["source"][i] != batch["source"][j]:
            own, other = (guess[i] - truth[i]).norm(), (guess[i] - truth[j]).norm()
            right[i].append(float(own < other))
    assert told == pytest.approx(sum(sum(hits) / len(hits) for hits in right.values()) / 5)


@pytest.mark.slow
def test_it_learns_a_link_and_nothing_where_it_is_cut(there: Path) -> None:
    from mmssl.data.toyworld import make_toyworld

    reached = {}
    for cut in (None, "sound_from_other_clip"):
        world = make_toyworld(there / f"world-{cut}", clips=500, seed=3, cut=cut, progress=False)
        overrides = [
            f"streams.0.data={world}",
            "streams.0.holdout=100",
            "streams.0.batch=48",
            "train.steps=250",
            "train.warmup=25",
        ]
        start_run(load_config("ambient_sound.yaml", overrides), there / f"run-{cut}", display=False)
        reached[cut] = evaluate_run(there / f"run-{cut}", progress=False)["objectives"]["ambient_sound"]["judged"]["accuracy"]
    assert reached[None]["low"] > 0.52
    assert reached["sound_from_other_clip"]["low"] < 0.5 < reached["sound_from_other_clip"]["high"]
