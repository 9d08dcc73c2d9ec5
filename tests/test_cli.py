"""The command line as a contract: which commands there are, examples, exit statuses, one sentence on stderr."""

import signal
import subprocess
import sys
import time

import pytest
import typer.main
from typer.testing import CliRunner

from mmssl.cli import COMMANDS, build_app

CONFIG = "configs/tiny/av_nce.yaml"


def mmssl(*arguments, **more):
    return subprocess.run(
        [sys.executable, "-m", "mmssl", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        **more,
    )


def test_the_contract_names_these_commands():
    assert set(COMMANDS) >= {"demo", "toyworld", "index", "view", "train", "localize", "features", "report", "bench", "doctor"}
    assert set(typer.main.get_command(build_app()).commands) == set(COMMANDS)


def leaves(command, name="mmssl"):
    """Each command that does something: its whole name, and the command."""
    if not hasattr(command, "commands"):
        return [(name, command)]
    return [leaf for part, inner in command.commands.items() for leaf in leaves(inner, f"{name} {part}")]


@pytest.mark.parametrize(("name", "command"), leaves(typer.main.get_command(build_app())))
def test_each_command_has_an_example_that_begins_with_its_name(name, command):
    assert f"Example: {name}" in " ".join(command.help.split())


@pytest.mark.parametrize(("name", "command"), leaves(typer.main.get_command(build_app())))
def test_help_shows_every_word_that_was_written(name, command, monkeypatch):
    """The terminal's markdown takes what stands in angle brackets, and stars in pairs."""
    monkeypatch.setattr("typer.rich_utils.MAX_WIDTH", 400)
    shown = CliRunner().invoke(build_app(), [*name.split()[1:], "--help"]).output
    told = [command.help, *(parameter.help for parameter in command.params if getattr(parameter, "help", None))]
    assert not {word for text in told for word in text.replace("`", "").split() if word not in shown}


def test_importing_the_command_line_does_not_import_torch():
    code = "import sys, mmssl.cli; mmssl.cli.build_app(); assert not {'torch', 'av', 'cv2', 'pydantic'} & set(sys.modules), sorted(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("train", "configs/none.yaml"), "there is no config"),
        (("train", CONFIG, "train.stepz=3"), "'steps'"),
        (("localize", "no-run", "a.mp4", "b.mp4"), "no-run is no run folder"),
        (("index", "no-folder"), "no-folder"),
        (("demo", "--minutes", "0.1"), "out of range"),
    ],
)
def test_bad_input_is_status_2_and_a_sentence(arguments, words):
    done = mmssl(*arguments)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_run_that_exists_is_not_overwritten(tmp_path):
    (tmp_path / "run" / "ckpt").mkdir(parents=True)
    done = mmssl("train", CONFIG, "--out", tmp_path / "run")
    assert done.returncode == 2
    assert "--resume" in done.stderr
    done = mmssl("train", CONFIG, "--out", tmp_path / "other", "--resume")
    assert done.returncode == 2
    assert "no run to resume" in done.stderr


@pytest.mark.parametrize("workers", [0, 1])
def test_ctrl_c_saves_and_says_how_to_go_on(toy, tmp_path, workers):
    out = tmp_path / "run"
    arguments = [
        CONFIG,
        f"streams.0.data={toy}",
        "streams.0.batch=4",
        "streams.0.holdout=4",
        "train.steps=4000",
        "train.warmup=0",
        "train.eval_every=0",
    ]
    arguments += [f"train.workers={workers}", "--out", str(out)]
    process = subprocess.Popen(
        [sys.executable, "-m", "mmssl", "train", *arguments],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 200
        while not (out / "metrics.jsonl").is_file() or not (out / "metrics.jsonl").read_text():
            assert time.monotonic() < deadline, "the run never logged a step"
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.2)
        import os

        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: the workers get it too
        _, errors = process.communicate(timeout=120)
    finally:
        if process.poll() is None:
            process.kill()
    assert process.returncode == 1
    assert "--resume" in errors
    assert "Traceback" not in errors
    saved = sorted(p.name for p in (out / "ckpt").iterdir() if not p.name.startswith("."))
    assert saved and f"step {int(saved[-1])} of 4000" in errors
