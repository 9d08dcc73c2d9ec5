from __future__ import annotations

from multiprocessing.reduction import ForkingPickler as Pickler  # what carries a dataset to loader workers
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmssl.data.manifest import SCHEMA, Manifest, Scan, manifest_from_rows, read_manifest, read_rows, write_manifest
from mmssl.types import Cue, InputError, Source, Span

TALK = {
    "id": "talk",
    "path": "talk.mp4",
    "fps": 25.0,
    "width": 64,
    "height": 48,
    "video_start": 0.0,
    "video_end": 2.0,
    "audio_start": 0.1,
    "audio_end": 2.5,
    "cues": [{"start": 0.0, "end": 1.0, "text": "bonjour"}],
    "loudness": [-20.0, -30.0],
}
MUTE = {
    "id": "a b/-mute ü",
    "path": "a b/-mute ü.avi",
    "fps": 10.0,
    "width": 8,
    "height": 8,
    "video_start": 0.0,
    "video_end": 1.0,
}
QUIET = {**MUTE, "id": "quiet", "path": "quiet.mp4", "audio_start": 0.0, "audio_end": 1.0, "loudness": [-120.0, -75.0]}
RADIO = {"id": "radio", "path": "radio.mp3", "audio_start": 0.0, "audio_end": 3600.0, "notes": ["damaged"]}
BAD = {"id": "bad", "path": "bad.mp4", "reason": "not media"}
WORSE = {"id": "worse", "path": "worse.mp4", "reason": "not media"}
SHUT = {"id": "shut", "path": "shut.mp4", "reason": "permission denied"}
ROWS = [TALK, MUTE, QUIET, RADIO, BAD, WORSE, SHUT]


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    root.mkdir()
    path = tmp_path / "m.parquet"
    write_manifest(path, manifest_from_rows(ROWS), root=root, scan=Scan(ignored=3, unreadable=("locked",)))
    return path


def test_sources_come_back_as_they_were_written(stored):
    manifest = read_manifest(stored)
    root = stored.parent / "root"
    assert manifest.ids == ("a b/-mute ü", "quiet", "radio", "talk")
    assert manifest[3] == Source(
        id="talk",
        path=root / "talk.mp4",
        fps=25.0,
        width=64,
        height=48,
        video=Span(0.0, 2.0),
        audio=Span(0.1, 2.5),
        cues=(Cue(0.0, 1.0, "bonjour"),),
        loudness=(-20.0, -30.0),
    )
    assert manifest[-1] == manifest[3]
    assert (manifest[0].has_audio, manifest[0].path) == (False, root / "a b/-mute ü.avi")
    assert (manifest[2].has_video, manifest[2].duration) == (False, 3600.0)
    assert [source.id for source in manifest] == list(manifest.ids)
    with pytest.raises(IndexError):
        manifest[4]


def test_rejections_and_summary(stored):
    manifest = read_manifest(stored)
    assert manifest.rejected == {"bad": "not media", "shut": "permission denied", "worse": "not media"}
    assert manifest.reasons == {"not media": 2, "permission denied": 1}
    summary = manifest.summary()
    assert (summary.usable, summary.rejected, summary.ignored) == (4, 3, 3)
    assert (summary.with_sound, summary.silent, summary.silent_tracks) == (2, 2, 1)
    assert (summary.with_subtitles, summary.audio_only) == (1, 1)
    assert summary.hours == pytest.approx((2.5 + 1 + 1 + 3600) / 3600, abs=1e-4)
    assert summary.reasons == {"not media": 2, "permission denied": 1}
    assert summary.notes == {"damaged": 1}
    assert summary.unreadable_folders == ("locked",)


def test_select_by_id_mask_and_slice(stored):
    manifest = read_manifest(stored)
    assert [s.id for s in manifest.select(["talk", "quiet"])] == ["talk", "quiet"]
    assert [s.id for s in manifest.select(np.array([True, False, False, True]))] == ["a b/-mute ü", "talk"]
    assert [s.id for s in manifest[1:3]] == ["quiet", "radio"]
    assert [s.id for s in manifest[1:].select(["talk", "radio"])[1:]] == ["radio"]
    assert len(manifest.select([])) == 0
    assert manifest.select([]).summary().usable == 0
    with pytest.raises(InputError, match="nearest id is 'talk'"):
        manifest.select(["tallk"])
    with pytest.raises(InputError, match="cannot be used: not media"):
        manifest.select(["bad"])
    with pytest.raises(InputError, match="selected 2 times"):
        manifest.select(["talk", "talk"])
    with pytest.raises(InputError, match=r"\(4,\), got \(2,\)"):
        manifest.select(np.array([True, False]))


def write(folder: Path, rows: list[dict], name: str = "m.parquet", root: str = "root") -> Manifest:
    (folder / root).mkdir(exist_ok=True)
    write_manifest(folder / name, manifest_from_rows(rows), root=folder / root)
    return read_manifest(folder / name)


def test_sha256_is_of_the_content_alone(tmp_path):
    first = write(tmp_path, ROWS)
    moved = write(tmp_path, [{**row, "size": 9, "mtime_ns": 8, "probe": "x"} for row in reversed(ROWS)], "n.parquet", "elsewhere")
    fewer_rejected = write(tmp_path, [row for row in ROWS if row is not SHUT], "o.parquet")
    assert first.sha256 == moved.sha256 == fewer_rejected.sha256
    assert first.sha256 == first.select(list(first.ids)).sha256
    changes = [
        {**TALK, "id": "talk2"},
        {**TALK, "video_end": 2.04},
        {**TALK, "audio_start": None, "audio_end": None},
        {**TALK, "cues": [{"start": 0.0, "end": 1.0, "text": "bonsoir"}]},
        {**TALK, "cues": [{"start": 0.0, "end": 1.5, "text": "bonjour"}]},
        {**TALK, "loudness": [-20.0]},
        {**TALK, "loudness": [-20.0, -31.0]},
        {**TALK, "width": 65},
        {**TALK, "fps": 30.0},
    ]
    digests = {write(tmp_path, [row, *ROWS[1:]], "c.parquet").sha256 for row in changes}
    assert len(digests | {first.sha256}) == len(changes) + 1
    assert first.select(["talk"]).sha256 != first.sha256
    assert first.select(["talk", "quiet"]).sha256 != first.select(["quiet", "talk"]).sha256


def test_sha256_stays_the_same_over_versions(stored):
    """Resuming a run compares it with the one saved months ago: a new pyarrow or a refactoring may not change it."""
    assert read_manifest(stored).sha256 == "f9097901885d5a46fb8c2bde7662cc182691c267c88228db5a1176100daeed55"


def test_motion_is_shown_and_counted_only_where_it_is_asked_for(tmp_path):
    plain = write(tmp_path, ROWS)
    moving = write(tmp_path, [{**TALK, "motion": [1.5, 0.0]}, *ROWS[1:]], "n.parquet")
    assert not plain.has_motion and moving.has_motion
    assert moving.select(["talk"])[0].motion == (1.5, 0.0)
    assert moving.select(["quiet"])[0].motion == ()
    assert moving.sha256 != plain.sha256
    assert write(tmp_path, [{**TALK, "motion": [1.5, 0.5]}, *ROWS[1:]], "o.parquet").sha256 != moving.sha256
    hidden = moving.without_motion()
    assert hidden.sha256 == plain.sha256 and not hidden.has_motion
    assert hidden.select(["talk"])[0].motion == ()
    for manifest in (moving, hidden):  # on the way to workers
        assert list(Pickler.loads(Pickler.dumps(manifest[1:]))) == list(manifest[1:])


def test_a_manifest_from_before_motion_still_loads(stored):
    table = pq.read_table(stored)
    assert "motion" in table.column_names
    before = read_manifest(stored)
    pq.write_table(table.drop_columns(["motion"]), stored)
    again = read_manifest(stored)
    assert list(again) == list(before)
    assert again.sha256 == before.sha256
    assert read_rows(stored).schema.equals(SCHEMA)


def test_sha256_does_not_depend_on_slices(stored):
    manifest = read_manifest(stored)
    assert manifest[2:4].sha256 == manifest.select(["radio", "talk"]).sha256


def test_pickles_name_the_file_instead_of_carrying_rows(tmp_path):
    rows = [{**TALK, "id": f"{number:05d}", "path": f"{number}.mp4", "loudness": [-20.0] * 100} for number in range(500)]
    manifest = write(tmp_path, rows)
    part = manifest[10:20]
    content = Pickler.dumps(part)
    assert len(content) < 1500
    again = Pickler.loads(content)
    assert list(again) == list(part)
    assert again.sha256 == part.sha256


def test_a_pickle_refuses_a_manifest_that_has_changed(tmp_path):
    manifest = write(tmp_path, ROWS)
    content = Pickler.dumps(manifest)
    write(tmp_path, ROWS[:2])
    with pytest.raises(InputError, match="has changed while it was in use"):
        Pickler.loads(content)
    assert list(Pickler.loads(Pickler.dumps(manifest))) == list(manifest)  # now it carries its rows


def test_folder_and_manifest_move_together(tmp_path):
    (tmp_path / "clips").mkdir()
    inside = tmp_path / "clips" / "m.parquet"
    write_manifest(inside, manifest_from_rows(ROWS), root=tmp_path / "clips")
    (tmp_path / "clips").rename(tmp_path / "moved")
    manifest = read_manifest(tmp_path / "moved" / "m.parquet")
    assert manifest.root == tmp_path / "moved"
    assert manifest.select(["talk"])[0].path == tmp_path / "moved" / "talk.mp4"


def test_a_root_that_is_gone_can_be_given_anew(stored):
    (stored.parent / "root").rename(stored.parent / "other")
    with pytest.raises(InputError, match="is no folder now"):
        read_manifest(stored)
    assert read_manifest(stored, root=stored.parent / "other")[0].path.is_relative_to(stored.parent / "other")


def test_files_that_are_no_manifest(tmp_path, stored):
    cases = {
        "text.parquet": (b"not parquet at all", "no Parquet file that can be read"),
        "empty.parquet": (b"", "no Parquet file that can be read"),
        "cut.parquet": (stored.read_bytes()[:-100], "no Parquet file that can be read"),
    }
    for name, (content, message) in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=message):
            read_manifest(tmp_path / name)
    with pytest.raises(InputError, match="there is no manifest"):
        read_manifest(tmp_path / "gone.parquet")
    pq.write_table(pa.table({"x": [1]}), tmp_path / "foreign.parquet")
    with pytest.raises(InputError, match="no manifest of mmssl's"):
        read_manifest(tmp_path / "foreign.parquet")
    table = pq.read_table(stored)
    pq.write_table(table.drop_columns(["loudness"]), tmp_path / "less.parquet")
    with pytest.raises(InputError, match="lacks columns"):
        read_manifest(tmp_path / "less.parquet")
    header = table.schema.metadata[b"mmssl.manifest"]
    for other, message in (
        (header.replace(b'"version": 1', b'"version": 99'), "version 99"),
        (b"{", "damaged"),
        (b"[]", "damaged"),
    ):
        pq.write_table(table.replace_schema_metadata({b"mmssl.manifest": other}), tmp_path / "header.parquet")
        with pytest.raises(InputError, match=message):
            read_manifest(tmp_path / "header.parquet")


def test_damaged_bytes_are_an_input_error_or_harmless(stored):
    """Bit flips in a Parquet file: told as InputError, never another exception."""
    content = stored.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(150):
        damaged = bytearray(content)
        for place in rng.integers(0, len(content), size=3):
            damaged[place] ^= 1 << int(rng.integers(8))
        stored.write_bytes(damaged)
        try:
            manifest = read_manifest(stored)
        except InputError:
            refused += 1
            continue
        assert len(list(manifest)) == len(manifest)
    assert refused > 20


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="cannot be written"):
        write_manifest(tmp_path / "file" / "m.parquet", SCHEMA.empty_table(), root=tmp_path)


def test_writing_leaves_the_old_manifest_or_the_new_one(stored, monkeypatch):
    before = stored.read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pq, "write_table", full)
    with pytest.raises(InputError, match="No space left"):
        write_manifest(stored, manifest_from_rows(ROWS[:1]), root=stored.parent / "root")
    assert stored.read_bytes() == before
    assert [path.name for path in stored.parent.iterdir() if path.is_file()] == ["m.parquet"]
