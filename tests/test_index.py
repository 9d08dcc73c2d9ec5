from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from mmssl.data.cache import cache_folder
from mmssl.data.index import default_manifest, index_folder, open_corpus
from mmssl.data.manifest import Manifest, read_manifest, read_rows
from mmssl.data.probe_pool import CRASHED
from mmssl.data.probe_streams import LONGEST
from mmssl.data.walk import assign_ids, find_sidecars, walk
from mmssl.types import Cue, InputError
from tests.small_clips import make_clip

FAKE = "tests.misbehaving_probe:probe"


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", seconds=1.0)


@pytest.fixture
def corpus(tmp_path: Path, clip: Path) -> Path:
    root = tmp_path / "corpus"
    for name in ("b.mp4", "deep/er/a b.mp4", "-dash.mp4", "ünïcødé 漢字.MP4", "new\nline.mp4", "dot.in.name.mp4"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(clip, root / name)
    (root / "letter.mp4").write_text("dear friend")
    (root / "empty.mkv").touch()
    (root / "notes.txt").write_text("x")
    (root / "picture.png").write_bytes(b"\x89PNG")
    (root / ".hidden.mp4").write_text("x")
    (root / "b.en.srt").write_text("1\n00:00:00,100 --> 00:00:00,500\nhello\n")
    return root


def fake_index(root: Path, out: Path, **options) -> Manifest:
    return index_folder(root, out, **{"workers": 1, "timeout": 20.0, "progress": False, "function": FAKE, **options})


# --- which files, which ids -------------------------------------------------------------------------------------------------


def test_every_file_is_accounted_for(corpus, tmp_path):
    manifest = index_folder(corpus, tmp_path / "m.parquet", progress=False, workers=2)
    assert manifest.ids == ("-dash", "b", "deep/er/a b", "dot.in.name", "new\nline", "ünïcødé 漢字")
    assert manifest.rejected == {"empty": "empty file", "letter": "not media, encrypted, or its header is damaged"}
    files = [path for path in corpus.rglob("*") if path.is_file()]
    assert len(manifest) + len(manifest.rejected) + manifest.scan.ignored == len(files)
    assert all(source.path.is_file() and source.has_video and source.has_audio for source in manifest)
    assert manifest.select(["b"])[0].cues == (Cue(0.1, 0.5, "hello"),)


def test_ids_keep_suffixes_only_where_they_must():
    assert assign_ids(["a/x.mp4", "b.mp4", "b.webm", "c.d.mp4"]) == ["a/x", "b.mp4", "b.webm", "c.d"]
    # a kept suffix meets another file's stem
    assert assign_ids(["b.mp4", "b.mp4.mkv", "b.webm"]) == ["b.mp4", "b.mp4.mkv", "b.webm"]
    assert assign_ids(["x/a.mp4", "y/a.mp4"]) == ["x/a", "y/a"]
    assert assign_ids([]) == []


def test_sidecars_by_name_and_order():
    mine = "a.srt a.vtt a.en.srt a.de.vtt a.en.sdh.ass a.forced.srt a.descriptions.vtt a.pt-BR.srt a.align a.mp4.srt"
    others = "a.chapters.vtt a.part2.srt ab.srt a-b.srt b.srt a.txt A.srt a.webm.srt"
    names = sorted(f"{mine} {others}".split())
    assert find_sidecars("a.mp4", names) == (
        "a.vtt",
        "a.srt",
        "a.mp4.srt",
        "a.align",
        "a.en.srt",
        "a.en.sdh.ass",
        "a.de.vtt",
        "a.pt-BR.srt",
        "a.descriptions.vtt",
        "a.forced.srt",
    )
    assert find_sidecars("c.mp4", names) == ()
    assert find_sidecars("x.SRT.mp4", ["x.SRT.VTT"]) == ("x.SRT.VTT",)


def test_links_are_followed_once_and_loops_end(corpus, tmp_path, clip):
    outside = tmp_path / "outside"
    outside.mkdir()
    shutil.copy(clip, outside / "far.mp4")
    (corpus / "loop").symlink_to(corpus)
    (corpus / "deep" / "up").symlink_to("..")
    (corpus / "aaa").symlink_to(corpus / "deep")  # a second path, before the first in order
    (corpus / "link to outside").symlink_to(outside)
    (corpus / "twice.mp4").symlink_to(corpus / "b.mp4")
    (corpus / "nothing.mp4").symlink_to(tmp_path / "nowhere.mp4")
    (corpus / "self.mp4").symlink_to(corpus / "self.mp4")
    os.link(corpus / "b.mp4", corpus / "hard.mp4")
    found = walk(corpus)
    paths = [candidate.path for candidate in found.candidates]
    assert "link to outside/far.mp4" in paths
    assert "deep/er/a b.mp4" in paths
    assert not any(path.startswith(("loop", "aaa", "deep/up")) or path in ("twice.mp4", "hard.mp4") for path in paths)
    reasons = {candidate.path: candidate.reason for candidate in found.candidates if candidate.reason}
    assert reasons["nothing.mp4"] == "vanished, or a link to nothing"
    assert reasons["self.mp4"].startswith("cannot be read: ")


def test_pipes_and_other_odd_things_are_rejected_unopened(corpus, tmp_path):
    os.mkfifo(corpus / "pipe.mp4")
    (corpus / "device.mp4").symlink_to("/dev/zero")
    (corpus / "folder.mp4").mkdir()
    (corpus / "folder.mp4" / "inside.txt").touch()
    with open(os.fsencode(corpus) + b"/bad\xff.mp4", "wb") as file:  # noqa: PTH123 - a name that is no UTF-8
        file.write(b"x")
    manifest = fake_index(corpus, tmp_path / "m.parquet")
    odd = "not a regular file (a pipe, a socket or a device)"
    assert (manifest.rejected["pipe"], manifest.rejected["device"]) == (odd, odd)
    assert manifest.rejected["bad\\udcff"] == "the name is not valid UTF-8; rename the file"
    assert not any(name.startswith("folder") for name in [*manifest.ids, *manifest.rejected])


def test_folders_that_cannot_be_listed_are_counted(corpus, tmp_path, monkeypatch):
    listed = os.scandir

    def refuse(path):
        if Path(path).name == "er":
            raise PermissionError(13, "Permission denied")
        return listed(path)

    monkeypatch.setattr(os, "scandir", refuse)  # root may list everything
    manifest = fake_index(corpus, tmp_path / "m.parquet")
    assert manifest.summary().unreadable_folders == ("deep/er",)
    assert "deep/er/a b" not in manifest.ids


def test_a_file_that_vanishes_after_it_was_listed(corpus, tmp_path, monkeypatch):
    def walk_then_lose(root, **options):
        found = walk(root, **options)
        (corpus / "b.mp4").unlink()
        return found

    monkeypatch.setattr("mmssl.data.index.walk", walk_then_lose)
    manifest = index_folder(corpus, tmp_path / "m.parquet", progress=False, workers=1)
    assert manifest.rejected["b"] == "vanished, or a link to nothing"
    assert "-dash" in manifest.ids


def test_hanging_and_crashing_files_are_rejected_and_the_rest_is_indexed(tmp_path):
    root = tmp_path / "corpus"
    root.mkdir()
    for name in ("a", "hang", "b", "segfault", "c"):
        (root / f"{name}.mp4").write_text(name)
    manifest = fake_index(root, tmp_path / "m.parquet", timeout=0.5, workers=2)
    assert manifest.ids == ("a", "b", "c")
    assert manifest.rejected == {"hang": "timed out after 0.5 s", "segfault": CRASHED}
    assert manifest.reasons == {"timed out after 0.5 s": 1, CRASHED: 1}


# --- what is reused ---------------------------------------------------------------------------------------------------------


def test_only_what_changed_is_probed_again(corpus, tmp_path, monkeypatch):
    out = tmp_path / "m.parquet"
    asked: list[str] = []
    from mmssl.data import index as module

    original = module.probe_all

    def watch(jobs, **options):
        asked.extend(Path(job["path"]).name for job in jobs)
        return original(jobs, **options)

    monkeypatch.setattr(module, "probe_all", watch)
    fake_index(corpus, out)
    everything = {"b.mp4", "a b.mp4", "-dash.mp4", "ünïcødé 漢字.MP4", "new\nline.mp4", "dot.in.name.mp4", "letter.mp4"}
    assert set(asked) == everything
    stamp = out.stat().st_mtime_ns

    asked.clear()
    first = fake_index(corpus, out)
    assert asked == []
    assert out.stat().st_mtime_ns == stamp, "an unchanged manifest is left alone"

    os.utime(corpus / "-dash.mp4", ns=(1, 1))  # touched
    (corpus / "b.en.srt").write_text("1\n00:00:00,100 --> 00:00:00,900\nchanged\n")
    (corpus / "dot.in.name.srt").write_text("")  # a sidecar that was not there
    shutil.copy(corpus / "b.mp4", corpus / "added.mp4")
    (corpus / "letter.mp4").unlink()
    second = fake_index(corpus, out)
    assert set(asked) == {"-dash.mp4", "b.mp4", "dot.in.name.mp4", "added.mp4"}
    assert set(second.ids) == {*first.ids, "added"} - {"letter"}

    asked.clear()
    shutil.copy(corpus / "b.mp4", corpus / "b.avi")  # b's id changes, what is known of it does not
    third = fake_index(corpus, out)
    assert asked == ["b.avi"]
    assert {"b.avi", "b.mp4"} <= set(third.ids)

    asked.clear()
    fake_index(corpus, out, loudness=False)
    assert len(asked) == 8
    asked.clear()
    fake_index(corpus, out, loudness=False, fresh=True)
    assert len(asked) == 8


def test_reasons_of_the_moment_are_tried_again(tmp_path, monkeypatch):
    root = tmp_path / "corpus"
    root.mkdir()
    (root / "a.mp4").write_text("x")
    out = tmp_path / "m.parquet"
    with monkeypatch.context() as patch:
        patch.setattr("mmssl.data.index.probe_all", lambda jobs, **_: iter([(0, {"reason": "permission denied"})]))
        assert fake_index(root, out).rejected == {"a": "permission denied"}
    assert fake_index(root, out).ids == ("a",)


def test_a_damaged_manifest_is_made_anew(corpus, tmp_path):
    out = tmp_path / "m.parquet"
    out.write_bytes(b"garbage")
    assert "b" in fake_index(corpus, out).ids


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_run_continues(tmp_path, how):
    """A run that is stopped half-way keeps what it has probed: at once on Ctrl-C, as of the last save on kill -9."""
    root = tmp_path / "corpus"
    root.mkdir()
    names = [f"{number:02d}" for number in range(10)]
    for name in [*names, "hang"]:
        (root / f"{name}.mp4").write_text(name)
    out = tmp_path / "m.parquet"
    program = (
        "import signal, sys; from pathlib import Path; import mmssl.data.index as module\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell's background jobs inherit that it is ignored
        "module.SAVE_SECONDS = 0.0\n"
        f"module.index_folder(Path(sys.argv[1]), Path(sys.argv[2]), workers=1, timeout=300, progress=False, function={FAKE!r})\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(root), str(out)], cwd=Path(__file__).parents[1], stderr=subprocess.DEVNULL
    )
    aside = tmp_path / ".m.unfinished.parquet"
    deadline = time.monotonic() + 60
    while not (aside.exists() and read_rows(aside).num_rows >= 8):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    process.send_signal(how)
    assert process.wait(timeout=60) != 0
    assert not out.exists(), "a part is never taken for the whole"
    kept = read_rows(aside).num_rows
    (root / "hang.mp4").unlink()
    manifest = fake_index(root, out)
    assert list(manifest.ids) == names
    assert kept >= 8
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["m.parquet"]


# --- corpora ----------------------------------------------------------------------------------------------------------------


def test_open_corpus_of_a_folder_and_of_a_manifest(tmp_path, clip):
    root = tmp_path / "my clips"
    root.mkdir()
    shutil.copy(clip, root / "a.mp4")
    corpus = open_corpus(root, progress=False)
    place = default_manifest(root)
    assert place.is_file() and place.is_relative_to(cache_folder())
    assert [path.name for path in root.iterdir()] == ["a.mp4"], "the folder of media is not written to"
    assert open_corpus(place).sha256 == corpus.sha256
    shutil.copy(clip, root / "b.mp4")
    assert open_corpus(root, progress=False).ids == ("a", "b")


def test_open_corpus_says_why_there_is_nothing(tmp_path):
    with pytest.raises(InputError, match="there is no folder"):
        open_corpus(tmp_path / "none", progress=False)
    (tmp_path / "x.txt").touch()
    with pytest.raises(InputError, match=r"no media files in .* \(1 other files\).*\.mp4"):
        open_corpus(tmp_path, progress=False)
    (tmp_path / "x.mp4").touch()
    with pytest.raises(InputError, match=r"none of the 1 media files .* \(empty file: 1\)"):
        open_corpus(tmp_path, progress=False)
    with pytest.raises(InputError, match="is a file; give the folder"):
        open_corpus(tmp_path / "x.txt", progress=False)


# --- the command ------------------------------------------------------------------------------------------------------------


def command(*arguments: str):
    import typer

    from mmssl.commands.index import index

    app = typer.Typer()
    app.command()(index)
    return CliRunner().invoke(app, list(arguments))


def test_command_prints_json(corpus, tmp_path):
    result = command(str(corpus), "--out", str(tmp_path / "m.parquet"), "--json")
    assert result.exit_code == 0, result.output
    told = json.loads(result.stdout)
    assert (told["usable"], told["rejected"], told["with_subtitles"], told["with_sound"]) == (6, 2, 1, 6)
    assert told["reasons"] == {"empty file": 1, "not media, encrypted, or its header is damaged": 1}
    assert read_manifest(Path(told["manifest"])).sha256 == told["sha256"]


def test_command_prints_a_table(corpus, tmp_path):
    result = command(str(corpus), "--out", str(tmp_path / "m.parquet"))
    assert result.exit_code == 0, result.output
    for line in ("6  usable", "6    with sound", "0    silent", "1    with captions", "2  rejected", "1    empty file"):
        assert line in result.stdout


def test_command_refuses_a_foreign_suffix(tmp_path):
    result = command(str(tmp_path), "--out", str(tmp_path / "m.csv"))
    assert isinstance(result.exception, InputError)
    assert "ends in .parquet" in str(result.exception)


def test_all_real_files(media, tmp_path):
    """Every file of the real clips is accounted for, none is fatal, and the odd ones are judged as by eye."""
    manifest = index_folder(media / "odd", tmp_path / "m.parquet", progress=False, workers=2)
    files = [path for path in (media / "odd").rglob("*") if path.is_file()]
    assert len(manifest) + len(manifest.rejected) + manifest.scan.ignored == len(files)
    assert set(manifest.rejected) == {
        "exoplayer/full_blocks",
        "exoplayer/sample.text",
        "exoplayer/sample_ac4",
        "exoplayer/sample_ac4_protected",
        "exoplayer/sample_fragmented_clearkey",
        "exoplayer/sample_mpegh_mha1",
        "exoplayer/subsample_encrypted_altref",
    }
    assert not any(reason.startswith(("the probe failed", "timed out", CRASHED)) for reason in manifest.reasons)
    assert all(source.duration < 200 for source in manifest), "no bogus duration is believed"


def test_mutated_files_are_judged_without_a_crash(media, tmp_path):
    """Bit flips, truncations, damaged headers, missing middles of real files: each is usable with sane spans, or has a reason."""
    rng = np.random.default_rng(1)
    originals = sorted(path for path in (media / "odd").rglob("*") if path.is_file() and path.stat().st_size < 200_000)
    root = tmp_path / "corpus"
    root.mkdir()
    for number in range(120):
        original = originals[number % len(originals)]
        content = bytearray(original.read_bytes())
        size = len(content)
        if number % 4 == 0:
            for place in rng.integers(0, size, size=1 + size // 2000):
                content[place] ^= 1 << int(rng.integers(8))
        elif number % 4 == 1:
            del content[int(rng.integers(size)) :]
        elif number % 4 == 2:
            for place in rng.integers(0, min(size, 4096), size=8):
                content[place] = int(rng.integers(256))
        else:
            start = int(rng.integers(size))
            del content[start : start + int(rng.integers(1, size // 3))]
        (root / f"{number}{original.suffix}").write_bytes(content)
    manifest = index_folder(root, tmp_path / "m.parquet", workers=2, progress=False)
    assert len(manifest) + len(manifest.rejected) == 120
    assert not any(reason.startswith(("the probe failed", "timed out", CRASHED)) for reason in manifest.reasons)
    assert 20 < len(manifest) < 110
    for source in manifest:
        for span in (source.video, source.audio):
            # A damaged table of times can say anything; it is followed up to 48 hours, here as by the decoder.
            assert span is None or 0 <= span.start < span.end < LONGEST
        assert (source.fps > 0) == source.has_video
        assert (source.width > 0) == (source.height > 0) == source.has_video
        assert all(-120 <= level <= 12 for level in source.loudness)
