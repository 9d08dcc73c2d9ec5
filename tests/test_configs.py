"""Every config in configs/ is valid, says how it is run, and (the tiny ones) trains two steps on the toy world."""

import re
from pathlib import Path

import pytest

from mmssl.config import load_config
from mmssl.data.holdout import split_holdout
from mmssl.data.index import open_corpus
from mmssl.downstream.encoder_space import encoder_space
from mmssl.downstream.features import Question, extract
from mmssl.run import load_run, start_run
from tests.tiny_text import tokenizer_of

ROOT = Path(__file__).resolve().parents[1]
ALL = sorted((ROOT / "configs").rglob("*.yaml"))


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


@pytest.mark.parametrize("path", [path for path in ALL if path.parent.name != "real"], ids=name)
def test_a_small_folder_is_split_too(path):
    """The tiny configs held out 420, a number for the toy world: on a reader's 31 clips the README's first commands ended with exit status 2."""
    for stream in load_config(path).streams:
        train, held = split_holdout([f"clip {number}" for number in range(31)], stream.holdout)
        assert len(train) > len(held) > 0


SMALL = [  # what keeps a config meant for a GPU or for hours small enough for a test
    "streams.0.batch=2",
    "streams.0.views_per_open=1",
    "streams.0.holdout=6",
    "streams.0.max_replaced=0.01",
    "train.steps=2",
    "train.eval_rows=2",
    "train.warmup=1",
    "train.workers=0",
]

# Those that show a clip in several ways or take several clips of it: 16 frames each would be too long for 1.6 s, or minutes of a GPU's network.
SEVERAL_CLIPS = ("clip_order", "odd_one_out", "arrow_of_time", "playback_rate", "video_rotation", "cubic_puzzle")


@pytest.mark.parametrize("path", ALL, ids=name)
def test_it_trains_two_steps_and_loads_again(path, toy, tmp_path):
    overrides = [f"streams.0.data={toy}", *SMALL]
    config = load_config(path)
    if "audio" in config.resolved["encoders"]:
        overrides.append("encoders.audio.seconds=0.5")
    if "text" in config.resolved["encoders"]:
        words = tokenizer_of(toy, tmp_path / "words.json")
        overrides += ["encoders.text.size=tiny", "encoders.text.tokens=32", f"encoders.text.tokenizer={words}"]
        overrides += ["streams.0.min_usable=0"]  # a caption or two in 1.6 s
    for number in range(1, len(config.streams)):
        overrides += [text.replace("streams.0", f"streams.{number}") for text in overrides if text.startswith("streams.0")]
    for number, stream in enumerate(config.resolved["streams"]):
        for place, objective in enumerate(stream["objectives"]):
            where = f"streams.{number}.objectives.{place}"
            if objective["name"] == "gap_sentences":  # the captions follow one another at once
                overrides.append(f"{where}.views.pause=0")
            if objective["name"] in ("mil_nce", "masked_video_lm"):
                overrides += [f"{where}.views.fps=12.5", "encoders.video.pixels=64"]
            if objective["name"] == "subtitle_alignment":
                overrides += [f"{where}.views.{text}" for text in ("seconds=1.5", "steps=4", "captions=2", "size=64")]
            if objective["name"] == "avts":  # the clips last 1.6 s
                bins = 3 if objective["centre"] else 1
                overrides += [f"{where}.views.seconds=0.5", f"{where}.views.frames=6", f"{where}.bins={bins}"]
            if objective["name"] in SEVERAL_CLIPS:
                overrides.append(
                    f"{where}.views.frames={8 if objective['name'] == 'playback_rate' else 4}"
                )  # s3d takes no fewer than 8
            if objective["name"] in ("clip_order", "arrow_of_time", "video_rotation", "cubic_puzzle"):
                overrides.append(f"{where}.views.size=64")
            if objective["name"] == "odd_one_out":
                overrides.append(f"{where}.views.sequences=2")
            if objective["name"] in ("colorize", "contrastive_random_walk"):  # a GPU's work: 49 patches of each of 16 frames
                overrides.append(f"{where}.views.size=64")
            if objective["name"] == "dense_predictive_coding":
                overrides += [f"{where}.views.blocks=4", f"{where}.views.fps=25"]
            if objective["name"] in ("dense_predictive_coding", "video_prediction"):
                overrides.append("encoders.video.pixels=64")
    start_run(load_config(path, overrides), tmp_path / "run", display=False)
    run = load_run(tmp_path / "run")
    assert run.step == 2
    assert set(run.encoders) == set(config.resolved["encoders"])
    if path.parent.name == "tiny":
        features_come_of_every_objective(run, open_corpus(toy, progress=False), tmp_path / "features")


def features_come_of_every_objective(run, corpus, out):
    told = [source for source in corpus if source.cues and source.audio][:2]
    for key, objective in run.objectives.items():
        space = encoder_space(key, objective, run.encoders)
        assert set(space.encoders) == set(objective.roles)
        found = extract(told, space, out / key, Question(space.kinds, 1.0, False), digest="x")
        assert not found.failed
        assert min(found.rows.values()) >= 2
