"""The parts and the page of tools/measure_joint.py."""

from __future__ import annotations

import copy
import sys
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from mmssl.config import resolve

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setattr(sys, "path", [str(ROOT / "tools"), *sys.path])
    import measure_joint  # type: ignore[import-not-found]

    return measure_joint


@pytest.fixture
def mix(tmp_path: Path) -> dict:
    values = yaml.safe_load((ROOT / "configs/tiny/joint.yaml").read_text())
    for stream in values["streams"]:
        stream["data"] = str(tmp_path)
    return values


def test_each_objective_alone_keeps_its_entry_and_the_encoders_that_it_needs(tool: ModuleType, mix: dict) -> None:
    before = copy.deepcopy(mix)
    parts = list(tool.parts(mix))
    assert mix == before
    assert [part.label for part in parts[:2]] == list(tool.TOGETHER)
    assert [part.values["train"]["weighting"] for part in parts[:2]] == ["fixed", "uncertainty"]
    whole = [item["name"] for stream in mix["streams"] for item in stream["objectives"]]
    assert [part.label for part in parts[2:]] == whole and len(whole) >= 6
    for part in parts[2:]:
        (stream,) = part.values["streams"]
        (item,) = stream["objectives"]
        mine = next(s for s in mix["streams"] if any(entry["name"] == part.label for entry in s["objectives"]))
        assert item == next(entry for entry in mine["objectives"] if entry["name"] == part.label)
        assert {key: value for key, value in stream.items() if key != "objectives"} == {
            k: v for k, v in mine.items() if k != "objectives"
        }
        assert part.values["train"]["steps"] == mix["train"]["steps"]
    sizes = {part.label: set(part.values["encoders"]) for part in parts}
    assert (
        sizes["masked_lm"] == {"text"} and sizes["rgb_flow"] == {"video", "flow"} and len(sizes["together, fixed weights"]) == 4
    )


def test_every_part_is_a_valid_config(tool: ModuleType, mix: dict) -> None:
    for part in tool.parts(mix):
        resolve(part.values)


def test_the_page_shows_every_objective_alone_and_together(tool: ModuleType) -> None:
    def entry(value: float) -> dict[str, float]:
        return {"value": value, "low": value - 0.1, "high": value + 0.1, "n": 10, "chance": 0.5}

    both = {"l3": {"accuracy": entry(0.71)}, "masked_lm": {"judged": {"accuracy": entry(0.31)}}}
    found = {
        "together, fixed weights": {
            "objectives": both,
            "seconds_per_step": 2.0,
            "log": {"gradient_cosine/video/a~b": -0.25, "z/gradient/video": 2.0, "eval/a/weight": 1.0},
        },
        "l3": {"objectives": {"l3": {"accuracy": entry(0.81)}}, "seconds_per_step": 0.5, "log": {}},
    }
    text = tool.page(found, ["l3", "masked_lm"], 300, "the command")
    rows = [line for line in text.splitlines() if line.startswith(("| l3", "| masked_lm"))]
    assert "0.810 [0.710, 0.910] | 0.710" in rows[0] and "0.310 [0.210, 0.410]" in rows[1]
    assert all(len(row.split("|")) == len(rows[0].split("|")) for row in rows)
    assert text.index("| `z/gradient/video` | 2 |") < text.index("| `gradient_cosine/video/a~b` | -0.25 |")
    assert "eval/a/weight" not in text
    assert "0.50 (all, one after the other)" in text
    with pytest.raises(SystemExit, match="none of"):
        tool.told({"sources": 3})
