"""Every config in configs/ is valid, says how it is run, and (the tiny ones) trains two steps on the toy world."""

import re
from pathlib import Path

import pytest

from mmssl.config import load_config
from mmssl.run import load_run, start_run

ROOT = Path(__file__).resolve().parents[1]
ALL = sorted((ROOT / "configs").rglob("*.yaml"))
TINY = sorted((ROOT / "configs" / "tiny").glob("*.yaml"))


def name(path):
    return str(path.relative_to(ROOT / "configs"))


@pytest.mark.parametrize("path", ALL, ids=name)
def test_it_resolves_and_begins_with_its_command(path):
    load_config(path)
    first = path.read_text().splitlines()[0]
    assert first.startswith("# ")
    command = re.search(r"mmssl train (\S+)", first)
    assert command is not None
    assert command[1] == str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", TINY, ids=name)
def test_it_trains_two_steps_and_loads_again(path, toy, tmp_path):
    config = load_config(
        path,
        [
            f"streams.0.data={toy}",
            "streams.0.batch=4",
            "streams.0.holdout=6",
            "train.steps=2",
            "train.eval_rows=4",
            "train.warmup=1",
            "train.workers=0",
        ],
    )
    start_run(config, tmp_path / "run", display=False)
    run = load_run(tmp_path / "run")
    assert run.step == 2
    assert set(run.encoders) == {"video", "audio"}
