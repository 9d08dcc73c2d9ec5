"""A prepared corpus in shards, with stored flow: the same corpus, in few files, whatever was killed on the way."""

from __future__ import annotations

import importlib
import json
import tarfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from mmssl.data import index, prepared
from mmssl.data import prepare as module
from mmssl.data.decode import answer
from mmssl.data.index import open_corpus
from mmssl.data.manifest import FLOW_FIELDS, FLOW_PATH, read_manifest
from mmssl.data.prepare import FlowForm, Form, prepare
from mmssl.data.prepared import MANIFEST, NOTES, PreparedFolder
from mmssl.data.probe_pool import PROBE
from mmssl.types import Flow, Frames, InputError, Source, Wave
from tests.small_clips import make_clip

FORM = Form(short_side=32, quality=30)


@pytest.fixture(autouse=True)
def _in_this_process(monkeypatch):
    """Worker processes take seconds to start (tests/test_prepare.py has them); what they do is done here instead."""

    def here(jobs, *, function=PROBE, **_):
        place, name = function.split(":")
        work = getattr(importlib.import_module(place), name)
        for number, job in enumerate(jobs):
            given = {key: value for key, value in job.items() if key not in ("size", "extra")}
            yield number, json.loads(json.dumps(work(**given)))

    monkeypatch.setattr(module, "probe_all", here)
    monkeypatch.setattr(index, "probe_all", here)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    root = tmp_path / "clips"
    make_clip(root / "talk.mp4", seconds=1.0)
    make_clip(root / "walking" / "one.mkv", seconds=0.8, tone=None)
    make_clip(root / "only.wav", seconds=0.8, size=None, audio_codec="pcm_s16le")
    (root / "broken.mp4").write_text("dear friend")
    (root / "talk.srt").write_text("1\n00:00:00,100 --> 00:00:00,900\nhello\n")
    return root


def run(root: Path, out: Path, **options):
    return prepare(root, out, **{"form": FORM, "workers": 1, "progress": False, **options})


def said(source: Source) -> tuple[object, ...]:
    requests = [Frames((0.1, 0.5), 16)] * source.has_video + [Wave(0.1, 0.5, 16_000)] * source.has_audio
    answers = answer(source, requests)
    return source.id, source.cues, source.video, source.audio, [answers[request].tolist() for request in requests]


def sound(out: Path) -> dict[str, int]:
    """Shard -> how many films; every film is in one place, and every shard is whole."""
    shards = {path.name: 0 for path in sorted(out.glob("*.tar"))}
    for path in shards:
        with tarfile.open(out / path) as tar:
            shards[path] = sum(info.name.endswith(".mp4") for info in tar)
    return shards


def test_shards_hold_the_same_corpus(corpus, tmp_path):
    files = run(corpus, tmp_path / "files", motion=True)
    found = run(corpus, tmp_path / "out", shard_bytes=1, motion=True)
    assert (found.done, found.bytes_after) == (3, files.bytes_after)
    assert [said(film) for film in found.manifest] == [said(film) for film in files.manifest]
    assert found.manifest.sha256 == files.manifest.sha256
    assert found.manifest.rejected == files.manifest.rejected and found.manifest.has_motion
    assert sound(tmp_path / "out") == {f"films-0000{number}.tar": 1 for number in range(3)}
    assert sorted(path.suffix for path in (tmp_path / "out").rglob("*")) == [".jsonl", ".parquet", ".tar", ".tar", ".tar"]
    one = run(corpus, tmp_path / "out", shard_bytes=10**9)  # what is there serves
    assert (one.done, one.kept) == (0, 3) and len(sound(tmp_path / "out")) == 3
    assert [said(film) for film in open_corpus(tmp_path / "out" / MANIFEST)] == [said(film) for film in files.manifest]
    with pytest.raises(InputError, match=r"give .*manifest\.parquet"):
        open_corpus(tmp_path / "out")
    moved = (tmp_path / "out").rename(tmp_path / "elsewhere")
    assert [said(film) for film in open_corpus(moved / MANIFEST)] == [said(film) for film in files.manifest]


def test_films_move_between_files_and_shards(corpus, tmp_path, monkeypatch):
    out = tmp_path / "out"
    before = [said(film) for film in run(corpus, out).manifest]
    made = []
    monkeypatch.setattr(module, "probe_all", lambda jobs, **options: made.extend(jobs) or iter(()))
    for shard_bytes, shards in ((10**9, 1), (None, 0), (1, 3), (None, 0)):
        found = run(corpus, out, shard_bytes=shard_bytes)
        assert (found.done, found.kept, len(sound(out)), made) == (0, 3, shards, [])
        assert [said(film) for film in found.manifest] == before


def test_what_changed_leaves_its_shard(corpus, tmp_path):
    out = tmp_path / "out"
    run(corpus, out, shard_bytes=10**9)
    make_clip(corpus / "new.mp4", seconds=0.7)
    (corpus / "only.wav").unlink()
    found = run(corpus, out, shard_bytes=10**9)
    assert (found.done, found.kept) == (1, 2)
    assert found.manifest.ids == ("new", "talk", "walking/one")
    assert list(sound(out).values()) == [3]
    (shard,) = out.glob("*.tar")
    shard.write_bytes(shard.read_bytes()[:5000])  # as a disk that lost its end
    assert run(corpus, out, shard_bytes=10**9).done >= 2
    assert [said(film)[0] for film in open_corpus(out / MANIFEST)] == ["new", "talk", "walking/one"]


@pytest.mark.parametrize("moment", ["before the notes", "before the files go", "while a shard is written"])
def test_a_killed_run_leaves_each_film_once(corpus, tmp_path, monkeypatch, moment):
    out = tmp_path / "out"

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if moment == "before the notes":
            real = PreparedFolder.note
            patch.setattr(PreparedFolder, "note", lambda self, note: die() if "shard" in note else real(self, note))
        elif moment == "before the files go":
            patch.setattr(PreparedFolder, "_remove_files", die)
        else:
            patch.setattr(
                prepared, "write_shard", lambda path, files: path.with_name(".x.1.part.tar").write_text("half") and die()
            )
        with pytest.raises(KeyboardInterrupt):
            run(corpus, out, shard_bytes=10**9)
    found = run(corpus, out, shard_bytes=10**9)
    assert (found.done, found.kept) == (0, 3)
    assert list(sound(out).values()) == [3]
    assert sorted(path.suffix for path in out.rglob("*")) == [".jsonl", ".parquet", ".tar"]
    assert len((out / NOTES).read_text().splitlines()) == 3
    assert [said(film)[0] for film in found.manifest] == ["only", "talk", "walking/one"]


def test_a_kill_while_a_shard_is_left_loses_nothing(corpus, tmp_path, monkeypatch):
    out = tmp_path / "out"
    before = [said(film) for film in run(corpus, out, shard_bytes=10**9).manifest]
    with monkeypatch.context() as patch:
        patch.setattr(PreparedFolder, "_sync", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run(corpus, out)
    found = run(corpus, out)
    assert (found.done, found.kept) == (0, 3) and not sound(out)
    assert [said(film) for film in found.manifest] == before


@pytest.mark.parametrize("shard_bytes", [None, 10**9])
def test_flow_is_stored_and_used(corpus, tmp_path, monkeypatch, shard_bytes):
    out = tmp_path / "out"
    plain = run(corpus, out, shard_bytes=shard_bytes)
    assert not plain.manifest.has_flow
    stamps = [json.loads(line)["bytes"] for line in (out / NOTES).read_text().splitlines()]
    found = run(corpus, out, flow=FlowForm(step=0.12), shard_bytes=shard_bytes)
    assert found.done == 2 and found.kept == 1  # sound alone has no flow
    assert [json.loads(line)["bytes"] for line in (out / NOTES).read_text().splitlines()] == stamps  # only flow was made
    assert found.manifest.has_flow and found.manifest.sha256 != plain.manifest.sha256
    assert found.bytes_after > plain.bytes_after
    talk, only = found.manifest.select(["talk"])[0], found.manifest.select(["only"])[0]
    assert talk.flow is not None and (talk.flow.step, talk.flow.method, only.flow) == (0.12, "dis", None)
    request = Flow((0.1, 0.5), 0.12, 24)
    computed = answer(Source("talk", talk.path), [request])[request].float()
    from mmssl.data import flow as flows

    with monkeypatch.context() as patch:
        patch.setattr(flows, "estimate", None)
        stored = answer(talk, [request])[request].float()
    assert (stored - computed).abs().mean() < 0.5
    assert run(corpus, out, shard_bytes=shard_bytes).manifest.has_flow  # what is stored stays
    again = run(corpus, out, flow=FlowForm(step=0.12), shard_bytes=shard_bytes)
    assert (again.done, again.kept) == (0, 3)
    other = run(corpus, out, flow=FlowForm(step=0.2), shard_bytes=shard_bytes)
    assert other.done == 2 and other.manifest.select(["talk"])[0].flow.step == 0.2  # type: ignore[union-attr]


def test_flow_that_a_shard_has_lost_is_not_named(corpus, tmp_path):
    out = tmp_path / "out"
    (corpus / "talk.mp4").unlink()
    run(corpus, out, flow=FlowForm(), shard_bytes=10**9)
    (shard,) = out.glob("*.tar")
    places = json.loads((out / NOTES).read_text().splitlines()[-1])["files"]
    shard.write_bytes(shard.read_bytes()[: places[".flow"][0] + 10])  # the film before it is whole
    assert run(corpus, out).manifest.select(["walking/one"])[0].flow is None
    again = run(corpus, out, flow=FlowForm(), shard_bytes=10**9)
    assert again.done == 1 and again.manifest.select(["walking/one"])[0].flow is not None


def test_flow_that_makes_no_sense_is_refused(corpus, tmp_path):
    for options in ({"step": 0.0}, {"step": float("nan")}, {"method": "horn"}):
        with pytest.raises(InputError, match="flow of step"):
            FlowForm(**options)
    with pytest.raises(InputError, match="known: h264, jpeg"):
        Form(pictures="png")  # type: ignore[arg-type]


def test_older_manifests_are_read(corpus, tmp_path):
    found = run(corpus, tmp_path / "out")
    place = tmp_path / "out" / MANIFEST
    table = pq.read_table(place)
    pq.write_table(table.drop_columns([FLOW_PATH.name, *(spec.name for spec in FLOW_FIELDS)]), place)
    older = read_manifest(place)
    assert [said(film) for film in older] == [said(film) for film in found.manifest]
    assert older.sha256 == found.manifest.sha256 and not older.has_flow


def test_the_command(corpus, tmp_path):
    from typer.testing import CliRunner

    from mmssl.cli import build_app

    options = ["--short-side", "32", "--workers", "1", "--pictures", "jpeg", "--flow", "--flow-step", "0.12", "--shards", "1"]
    done = CliRunner().invoke(build_app(), ["prepare", str(corpus), str(tmp_path / "out"), *options])
    assert done.exit_code == 0, done.output
    assert "3 films written, 0 were there already" in done.output
    assert list(sound(tmp_path / "out").values()) == [3]
    assert read_manifest(tmp_path / "out" / MANIFEST).has_flow
