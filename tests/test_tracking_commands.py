"""`mmssl track`, `mmssl probe davis` and `mmssl probe jhmdb` as users type them, on a run that has hardly trained: everything fits together, nothing is learnt here."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import typer

from mmssl.cli import main
from mmssl.commands.probe_davis import davis
from mmssl.commands.probe_jhmdb import jhmdb
from mmssl.config import load_config
from mmssl.downstream.palette import write_mask
from mmssl.downstream.probe import davis as davis_probe
from mmssl.downstream.probe import jhmdb as jhmdb_probe
from mmssl.downstream.probe import trackers
from mmssl.run import start_run
from mmssl.types import InputError
from tests.fake_world import tone, write_film
from tests.moving_squares import film
from tests.test_probe_davis import SMALL, write_sequence
from tests.test_probe_jhmdb import root as jhmdb_root
from tests.test_track_film import frames_in

ROOT = Path(__file__).resolve().parents[1]
LITTLE = ("--memory", 2, "--radius", 3, "--top", 5, "--temperature", 0.1)

__all__ = ["jhmdb_root"]


@pytest.fixture(scope="module")
def run(tmp_path_factory, toy):
    config = load_config(
        ROOT / "configs" / "tiny" / "contrastive_random_walk.yaml",
        [
            f"streams.0.data={toy}",
            "streams.0.batch=2",
            "streams.0.holdout=2",
            "train.steps=1",
            "train.workers=0",
            "train.eval_every=0",
        ],
    )
    path = tmp_path_factory.mktemp("runs") / "walk"
    start_run(config, path, display=False)
    return path


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A film with sound, and the mask of its first frame."""
    base = tmp_path_factory.mktemp("clip")
    pictures, masks = film(frames=10)
    write_mask(base / "mask.png", masks[0])
    return write_film(base / "film.mp4", lambda t: pictures[round(t * 10)], tone(400, 1.0), seconds=1.0), base / "mask.png"


def call(capsys, *words) -> tuple[int, str, str]:
    """Exit status, standard output, standard error of `mmssl WORDS`."""
    with pytest.raises(SystemExit) as leave:
        main([str(word) for word in words])
    told = capsys.readouterr()
    return int(leave.value.code or 0), told.out, told.err


def test_a_mask_is_followed(capsys, run, clip, tmp_path):
    status, said, _ = call(
        capsys, "track", run, clip[0], tmp_path / "out", "--mask", clip[1], *LITTLE, "--step", 1, "--device", "cpu"
    )
    assert status == 0
    assert said.startswith("Followed through 10 frames, 0.00 to 0.90 s.") and "track.json" in said
    assert len(list((tmp_path / "out" / "masks").iterdir())) == 10
    content = json.loads((tmp_path / "out" / "track.json").read_text())
    assert (content["run"], content["step"], content["objective"]) == (str(run), 1, "contrastive_random_walk")
    how = content["propagation"]
    assert (how["context"], how["radius"], how["top_k"], how["temperature"], how["whole_first"]) == (2, 3.0, 5, 0.1, False)
    assert how["seen"] == {"height": 64, "width": 96}, "small films are not enlarged"


def test_boxes_and_keypoints_are_followed_with_every_option(capsys, run, clip, tmp_path):
    more = ("--start", 0.2, "--end", 0.6, "--fps", 5, "--whole-first", "--radius", "inf", "--short-side", 32)
    status, said, _ = call(
        capsys,
        "track",
        run,
        clip[0],
        tmp_path / "a",
        "--box",
        "16,8,20,20",
        "--box",
        "72,16,20,20",
        *more,
        "--objective",
        "contrastive_random_walk",
    )
    assert status == 0 and said.startswith("Followed through 2 frames, 0.20 to 0.40 s.")
    content = json.loads((tmp_path / "a" / "track.json").read_text())
    assert content["fps"] == 5 and content["propagation"]["radius"] is None and content["propagation"]["whole_first"] is True
    assert content["propagation"]["seen"] == {"height": 32, "width": 48}
    (tmp_path / "points.json").write_text('{"corner": [8, 8]}')
    status, _, _ = call(
        capsys, "track", run, clip[0], tmp_path / "b", "--points", tmp_path / "points.json", *LITTLE, "--end", 0.3
    )
    assert status == 0
    assert len(json.loads((tmp_path / "b" / "track.json").read_text())["frames"]) == 3


def test_a_folder_of_pictures_is_a_film(capsys, run, clip, tmp_path):
    folder, _ = frames_in(tmp_path / "frames", 3)
    status, said, _ = call(capsys, "track", run, folder, tmp_path / "out", "--mask", clip[1], *LITTLE, "--fps", 2)
    assert status == 0 and said.startswith("Followed through 3 frames, 0.00 to 1.00 s.")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "nothing says what to follow"),
        (("--box", "1,1,5,5", "--mask", "m.png"), "--mask and --box are given"),
        (("--box", "90,1,20,5"), "does not lie in the frame, which is 96 x 64"),
        (("--box", "1,1,5,5", "--start", 4), "lasts"),
        (("--box", "1,1,5,5", "--temperature", 0), "give top_k >= 1"),
        (("--box", "1,1,5,5", "--radius", "nan"), "give top_k >= 1"),
        (("--box", "1,1,5,5", "--objective", "colorize"), "the run has no objective 'colorize'; it has contrastive_random_walk"),
        (("--box", "1,1,5,5", "--step", 7), "7"),
    ],
)
def test_bad_input_is_status_2_and_a_sentence(capsys, run, clip, tmp_path, words, told):
    status, _, error = call(capsys, "track", run, clip[0], tmp_path / "out", *words)
    assert status == 2 and told in error
    assert error.startswith("mmssl: ") and error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"a text file called .mp4", None])
def test_what_is_no_film_is_status_2(capsys, run, tmp_path, content):
    path = tmp_path / "film.mp4"
    if content is not None:
        path.write_bytes(content)
    status, _, error = call(capsys, "track", run, path, tmp_path / "out", "--box", "1,1,5,5")
    assert status == 2 and str(path) in error and error.count("\n") == 1


def test_frames_that_break_on_the_way_leave_nothing(capsys, run, clip, tmp_path):
    folder, _ = frames_in(tmp_path / "frames", 4)
    (folder / "00002.png").write_text("damaged")
    status, _, error = call(capsys, "track", run, folder, tmp_path / "out", "--mask", clip[1], *LITTLE)
    assert status == 2 and "could not be played: " in error and "00002.png is no picture" in error
    assert [path.name for path in tmp_path.iterdir()] == ["frames"]


# Benchmarks ------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def probes():
    app = typer.Typer()
    app.command("davis")(davis)
    app.command("jhmdb")(jhmdb)
    return app


def probe(app, capsys, *words) -> str:
    app([str(word) for word in words], standalone_mode=False)
    return re.sub(r"\s+", " ", capsys.readouterr().out)


def test_davis_writes_its_figures_beside_the_baselines(capsys, probes, run, tmp_path, monkeypatch):
    monkeypatch.setattr(davis_probe, "VAL", {2016: SMALL, 2017: SMALL})
    monkeypatch.setenv("COLUMNS", "160")
    pictures, masks = film(frames=7)
    data = tmp_path / "data"
    write_sequence(data, "alpha", pictures[:6], masks[:6])
    with pytest.raises(InputError, match="is not DAVIS-2017 val"):
        probe(probes, capsys, "davis", run, data)
    more = (
        "--allow-missing",
        "--out",
        tmp_path / "out",
        "--masks",
        tmp_path / "masks",
        "--short-side",
        32,
        "--whole-first",
        *LITTLE,
    )
    said = probe(
        probes, capsys, "davis", run, data, *more, "--step", 1, "--device", "cpu", "--objective", "contrastive_random_walk"
    )
    assert "Not the benchmark: 1 of the 2 sequences are missing (beta)." in said
    content = json.loads((tmp_path / "out" / "davis-2017.json").read_text())
    names = ["identity", "optical flow (DIS)", "before training", "walk, step 1"]
    assert list(content["trackers"]) == names and content["benchmark"] is False
    assert content["trackers"]["identity"]["J"]["mean"] < 0.6 and content["step"] == 1 and content["short_side"] == 32
    assert len((tmp_path / "out" / "davis-2017.csv").read_text().splitlines()) == 1 + 4 * 2
    assert all(len(list((tmp_path / "masks" / name / "alpha").iterdir())) == 6 for name in names)
    write_sequence(data, "beta", pictures, masks)
    said = probe(probes, capsys, "davis", run, data, "--year", 2016, "--no-baselines", *LITTLE)
    assert "DAVIS-2016 val, 2 objects" in said and "identity" not in said
    content = json.loads((run / "davis-2016.json").read_text())
    assert content["data"] == "DAVIS-2016 val" and list(content["trackers"]) == ["walk, step 1"]
    with pytest.raises(InputError, match="--year is 2015"):
        probe(probes, capsys, "davis", run, data, "--year", 2015)
    (data / "Annotations/480p/beta/00003.png").unlink()
    with pytest.raises(InputError, match="cannot be evaluated: sequence beta has 7 pictures and 6 masks"):
        probe(probes, capsys, "davis", run, data, "--year", 2016, "--no-baselines", *LITTLE)


def test_the_encoder_before_training_is_the_runs_own(run, tmp_path, monkeypatch):
    """After one step it differs from the trained one, and its weights are those that the run began with."""
    from mmssl.downstream.follow import sight_of
    from mmssl.run import load_run

    loaded = load_run(run)
    trained = sight_of(loaded.encoders, loaded.objectives).encoder.state_dict()
    fresh, again = (loaded.config.build_encoders()["video"].state_dict() for _ in range(2))
    assert all(np.array_equal(fresh[key], again[key]) for key in fresh)
    changed = [key for key in fresh if not np.array_equal(fresh[key], trained[key])]
    assert changed and max(float((fresh[key] - trained[key]).abs().max()) for key in changed) < 0.1


def test_jhmdb_writes_its_figures_beside_the_baselines(capsys, probes, run, jhmdb_root, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setattr(trackers, "SQUEEZED", (64, 64))  # what it is in truth, tests/test_probe_jhmdb.py says
    more = (
        *LITTLE,
        "--out",
        tmp_path / "out",
        "--whole-first",
        "--step",
        1,
        "--device",
        "cpu",
        "--objective",
        "contrastive_random_walk",
    )
    said = probe(probes, capsys, "jhmdb", run, jhmdb_root, *more)
    assert "JHMDB test split 1, PCK" in said
    content = json.loads((tmp_path / "out" / "jhmdb.json").read_text())
    assert list(content["trackers"]) == ["identity", "optical flow (DIS)", "before training", "walk, step 1"]
    assert content["benchmark"] is True and content["propagation"]["whole_first"] is True
    assert len((tmp_path / "out" / "jhmdb.csv").read_text().splitlines()) == 1 + 4 * 2
    monkeypatch.setattr(jhmdb_probe, "VIDEOS", 268)
    with pytest.raises(InputError, match="its lists name 2 test videos instead of 268"):
        probe(probes, capsys, "jhmdb", run, jhmdb_root)
    said = probe(probes, capsys, "jhmdb", run, jhmdb_root, "--allow-missing", "--no-baselines", *LITTLE)
    assert "Not the benchmark: its lists name 2 test videos instead of 268." in said and (run / "jhmdb.json").is_file()
    (jhmdb_root / "joint_positions/run/one/joint_positions.mat").write_bytes(b"")
    with pytest.raises(InputError, match=r"cannot be evaluated: .*holds no joints"):
        probe(probes, capsys, "jhmdb", run, jhmdb_root, "--allow-missing", "--no-baselines")
