"""`mmssl doctor` tells the truth about codecs, and each thing that it advises follows from what it found."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from mmssl.commands import _checkup
from mmssl.commands.doctor import doctor
from mmssl.data import codecs

GIB = 1024**3


@pytest.fixture(scope="module")
def found() -> _checkup.Checkup:
    return _checkup.check_up()


def test_the_codecs_that_the_project_needs_work() -> None:
    outcomes = {trial.name: trial.outcome for trial in codecs.try_codecs()}
    for name in ("H.264", "HEVC", "VP9", "AV1", "AAC", "Opus", "MP3"):
        assert outcomes[name] == "works", name


@pytest.mark.parametrize("change", [{"decoder": "no_such_decoder"}, {"encoder": "no_such_encoder"}, {"container": "mp3"}])
def test_a_codec_that_cannot_be_tried_is_not_said_to_work(change: dict[str, str]) -> None:
    trial = codecs._try(codecs.CODECS[0]._replace(**change))
    assert trial.outcome == ("absent" if "decoder" in change else "listed")
    assert trial.detail


def test_a_wrong_picture_and_a_wrong_sound_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    picture, sound = codecs.CODECS[0], next(codec for codec in codecs.CODECS if codec.name == "FLAC")
    clips = {"picture": codecs._make_picture(picture), "sound": codecs._make_sound(sound)}
    assert codecs._compare_picture(clips["picture"]) == "" and codecs._compare_sound(clips["sound"]) == ""
    ramp = codecs._ramp
    monkeypatch.setattr(codecs, "_ramp", lambda number: 255 - ramp(number))
    monkeypatch.setattr(codecs, "TONE", 900.0)
    assert "wrong by" in codecs._compare_picture(clips["picture"])
    assert "of the sound's energy" in codecs._compare_sound(clips["sound"])


def test_lost_frames_and_lost_sound_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    picture, sound = codecs._make_picture(codecs.CODECS[0]), codecs._make_sound(codecs.CODECS[-1])
    monkeypatch.setattr(codecs, "FRAMES", 9)
    monkeypatch.setattr(codecs, "SECONDS", 2.0)
    assert codecs._compare_picture(picture) == "8 of 9 frames came back"
    assert codecs._compare_sound(sound) == "0.50 of 2.00 s came back"


def test_the_json_is_one_object_and_complete(capsys: pytest.CaptureFixture[str]) -> None:
    doctor(as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert set(told) == {"versions", "machine", "devices", "codecs", "backends", "folders", "advice"}
    assert told["versions"]["torch"] and told["versions"]["ffmpeg"]
    assert told["machine"]["cores"] >= 1 and told["machine"]["memory_bytes"] > 0
    assert told["backends"]["pyav"]["works"] is True


def test_the_tables_name_what_is_missing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, found: _checkup.Checkup
) -> None:
    bad = _checkup.Advice("a thing", "an effect", "pip install 'mmssl[thing]'")
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setattr(_checkup, "check_up", lambda: replace(found, advice=[bad]))
    doctor()
    told = capsys.readouterr().out
    for expected in ("H.264 (picture)", "backend pyav", "torchaudio", "a thing", "an effect", "pip install 'mmssl[thing]'"):
        assert expected in told


def test_the_cache_is_measured_where_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MMSSL_CACHE", str(tmp_path / "cache"))
    assert _checkup._folders()["cache"]["size_bytes"] == 0
    (tmp_path / "cache" / "deep").mkdir(parents=True)
    (tmp_path / "cache" / "deep" / "file").write_bytes(b"x" * 1000)
    told = _checkup._folders()["cache"]
    assert (told["path"], told["size_bytes"]) == (str(tmp_path / "cache"), 1000)


def healthy(found: _checkup.Checkup) -> _checkup.Checkup:
    room = {"path": "here", "size_bytes": 0, "free_bytes": 100 * GIB}
    return replace(
        found,
        versions=found.versions | dict.fromkeys(_checkup.ONNX, "1.0"),
        codecs=[{"name": "H.264", "kind": "picture", "outcome": "works", "detail": ""}],
        backends={name: {"works": True, "detail": ""} for name in ("pyav", "torchcodec", "decord")},
        machine=found.machine | {"flags": ["avx512_bf16"], "shared_memory_bytes": 8 * GIB},
        devices=[],
        folders={"cache": room, "here": room},
    )


def test_a_healthy_machine_gets_no_advice(found: _checkup.Checkup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_checkup.shutil, "which", lambda name: None)
    assert _checkup._advice(healthy(found)) == []


@pytest.mark.parametrize(
    "change, expected",
    [
        ({"codecs": [{"name": "AV1", "kind": "picture", "outcome": "absent", "detail": ""}]}, "no decoding of AV1"),
        ({"backends": {"pyav": {"works": False, "detail": "boom"}}}, "PyAV does not decode: boom"),
        ({"backends": {"torchcodec": {"works": False, "detail": ""}}}, "backend torchcodec"),
        ({"backends": {"decord": {"works": False, "detail": ""}}}, "backend decord"),
        ({"machine": {"shared_memory_bytes": 64 * 1024**2}}, "0.06 GiB of /dev/shm"),
        ({"machine": {"flags": ["avx2"]}}, "no bfloat16"),
        ({"devices": [{"name": "old", "bfloat16": False}]}, "a GPU without bfloat16"),
        ({"versions": {"onnxruntime": None}}, "onnxruntime (optional)"),
        ({"folders": {"cache": {"path": "there", "free_bytes": GIB}}}, "1.0 GiB free at there"),
    ],
)
def test_each_lack_is_named_with_a_remedy(
    change: dict, expected: str, found: _checkup.Checkup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_checkup.shutil, "which", lambda name: None)
    (key, value), before = next(iter(change.items())), healthy(found)
    lacking = replace(before, **{key: getattr(before, key) | value if isinstance(value, dict) else value})
    advice = _checkup._advice(lacking)
    assert [expected in one.what for one in advice] == [True]
    assert advice[0].effect and advice[0].remedy


def test_a_driver_without_a_gpu_for_torch_is_told(found: _checkup.Checkup, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_checkup.shutil, "which", lambda name: "/bin/nvidia-smi")
    assert ["torch sees no GPU" in one.what for one in _checkup._advice(healthy(found))] == [True]
