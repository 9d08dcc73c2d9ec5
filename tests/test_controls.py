"""The rows of tools/tasks.py and the controls of tools/controls: all can be built, and a control cuts what it says."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from mmssl.config import load_config
from mmssl.encoders.bank import EncoderBank
from mmssl.nn.augment import FrameAugment
from mmssl.objectives.base import objective_class
from tests.moving_cells import faint
from tests.test_rgb_flow import STILL, moving_kinds, towers
from tests.tiny_av import build, measure, tiny_for, train

UNTOUCHED = FrameAugment(brightness=0, contrast=0, saturation=0, hue=0, flip=0)

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "tools"))  # as for the programs there, which name the controls in configs

import tasks as rows  # type: ignore[import-not-found] # noqa: E402


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    import run_tasks  # type: ignore[import-not-found]

    return run_tasks


@pytest.mark.parametrize("name", rows.TASKS)
def test_each_row_makes_a_config_under_each_condition(name, tool, tmp_path):
    found = list(tool.jobs([name], list(tool.CONDITIONS), 0, tmp_path))
    assert [job.condition for job in found] >= ["whole", "cut"]
    for job in found:
        given = [f"streams.0.data={tmp_path}", *job.overrides]
        config = load_config(job.config, given)
        judged = config.streams[0].objectives[0]["name"]
        assert judged.startswith("controls.") == (job.condition == "cut" and bool(job.task.cut_overrides))


def test_permuted_documents_keep_neither_words_nor_lengths_in_place(tool, toy, tmp_path, monkeypatch):
    monkeypatch.setattr(tool, "_world", lambda *_: toy)
    plain, permuted = (
        {
            path.name: path.read_text().lower().split("\n")
            for path in sorted(tool._documents(tmp_path, 0, permuted=cut).glob("*.txt"))
        }
        for cut in (False, True)
    )
    before, after = ([line for lines in some.values() for line in lines] for some in (plain, permuted))
    assert [len(lines) for lines in plain.values()] == [len(lines) for lines in permuted.values()]
    assert sorted(" ".join(line[:-1] for line in before).split()) == sorted(" ".join(line[:-1] for line in after).split())
    assert {line[-1] for line in before} == {"."}
    assert {line[-1] for line in after} == set(".!?\u2026")
    assert sorted(len(line.split()) for line in before) == sorted(len(line.split()) for line in after)
    assert [len(line.split()) for line in before] != [len(line.split()) for line in after]
    assert not set(before) & set(after)


def test_flow_from_strangers_cannot_be_matched_though_the_link_is_there():
    encoders = towers()
    objective = build("controls.flow_from_strangers", encoders, **STILL)
    train(objective, encoders, lambda n, seed: moving_kinds(n, seed), steps=60, rows=32, lr=3e-3)
    metrics = measure(objective, encoders, lambda n, seed: moving_kinds(n, seed), rows=64)
    assert metrics["accuracy"] < 0.1  # of 64; what rgb_flow itself reaches is tested beside it
    judged = objective.eval().judge(moving_kinds(64, 7), EncoderBank(encoders))["accuracy"].values.mean()
    assert abs(float(judged) - 0.5) < 0.08


def test_flow_from_strangers_moves_the_flow_and_nothing_else():
    encoders = towers()
    control = build("controls.flow_from_strangers", encoders, **STILL).eval()
    batch = moving_kinds(6, 1)
    joint = control.joint(batch, EncoderBank(encoders))
    rolled = control.flow_head(encoders["flow"](batch["flow"].roll(1, dims=0)).pooled)
    torch.testing.assert_close(joint["flow"], rolled)
    torch.testing.assert_close(joint["video"], control.video_head(encoders["video"](batch["video"]).pooled))


def test_a_walk_whose_home_is_elsewhere_does_not_learn_to_come_home():
    encoders = tiny_for(objective_class("contrastive_random_walk"))
    objective = build("controls.walk_home_elsewhere", encoders, form="grid", frame_augment=UNTOUCHED)
    train(objective, encoders, faint, steps=100, lr=1e-2)
    judged = objective.eval().judge(faint(64, 900_000), EncoderBank(encoders))["accuracy"]
    assert float(judged.values.mean()) == pytest.approx(judged.chance, abs=0.03)
