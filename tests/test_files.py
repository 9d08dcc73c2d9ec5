import errno
import os
import subprocess
import sys

import pytest

from mmssl.cli import main
from mmssl.files import check_file, check_folder, full_disk, make_aside, make_folder_aside, write_aside
from mmssl.types import InputError


def test_content_arrives_and_nothing_is_left_beside_it(tmp_path):
    write_aside(tmp_path / "a" / "x.json", b"one")
    write_aside(tmp_path / "a" / "x.json", b"two")
    assert (tmp_path / "a" / "x.json").read_bytes() == b"two"
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["x.json"]


def test_a_failure_leaves_the_old_file_and_no_part(tmp_path):
    write_aside(tmp_path / "x.bin", b"old")

    def fail(part):
        part.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        make_aside(tmp_path / "x.bin", fail)
    assert (tmp_path / "x.bin").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["x.bin"]


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    def fill(part):
        (part / "inner").mkdir()
        (part / "inner" / "x.txt").write_text("all")
        assert part.name not in ("out", "empty"), "it is filled elsewhere"

    make_folder_aside(tmp_path / "out", fill)
    assert (tmp_path / "out" / "inner" / "x.txt").read_text() == "all"
    (tmp_path / "empty").mkdir()
    make_folder_aside(tmp_path / "empty", fill)
    with pytest.raises(OSError, match="not empty"):
        make_folder_aside(tmp_path / "out", fill)

    def fail(part):
        fill(part)
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        make_folder_aside(tmp_path / "other", fail)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "out"]


def test_a_place_that_cannot_be_written_is_refused_before_and_nothing_is_made(tmp_path, monkeypatch):
    check_file(tmp_path / "new" / "deeper" / "x.json", "")
    check_folder(tmp_path / "new" / "deeper", "")
    check_folder(tmp_path, "")
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").write_text("content")
    check_file(tmp_path / "file", "")
    for check, place, why in (
        (check_file, tmp_path, "it is a folder; call it otherwise"),
        (check_file, tmp_path / "file" / "x.json", "file is a file; call it otherwise"),
        (check_folder, tmp_path / "file", "file is a file; call it otherwise"),
        (check_folder, tmp_path / "file" / "x", "file is a file; call it otherwise"),
    ):
        with pytest.raises(InputError, match=why):
            check(place, "call it otherwise")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(InputError, match="not yours to write to"):
        check_folder(tmp_path, "")


AS_SOMEBODY_ELSE = """
import os, sys
from pathlib import Path
from mmssl.files import check_file, check_folder
from mmssl.types import InputError
if os.geteuid() == 0:
    os.setuid(65534)
for check in (check_file, check_folder):
    try:
        check(Path(sys.argv[1]), "")
    except InputError as error:
        print(error)
"""


def test_a_place_in_a_folder_that_may_not_even_be_looked_into_is_refused_in_words(tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0)
    told = subprocess.run(
        [sys.executable, "-c", AS_SOMEBODY_ELSE, closed / "deeper" / "x"], capture_output=True, text=True, check=False
    )
    assert told.returncode == 0, told.stderr
    assert [line.partition(":")[0] for line in told.stdout.splitlines()] == [f"{closed / 'deeper' / 'x'} cannot be written"] * 2
    assert told.stdout.count("not yours to write to") == 2


@pytest.mark.parametrize(
    "arguments",
    [
        "index clips --out PLACE",
        "view config.yaml --out PLACE",
        "localize run film.mp4 PLACE.mp4",
        "features run clips PLACE",
        "report run --out PLACE",
        "search index run clips PLACE",
        "search query made --text a --sheet PLACE",
        "export run PLACE",
        "toyworld PLACE",
        "prepare clips PLACE",
        "track run film.mp4 PLACE",
        "tokenizer clips PLACE",
        "train config.yaml --out PLACE",
        "demo --out PLACE",
        "probe knn run clips --out PLACE",
        "probe knn run clips --plot PLACE",
        "probe soundnet run clips --out PLACE",
        "probe davis run clips --out PLACE",
        "probe davis run clips --masks PLACE",
        "probe jhmdb run clips --out PLACE",
        "probe retrieval run msrvtt-1ka list.csv clips --out PLACE",
    ],
)
def test_commands_look_at_the_place_for_what_they_make_before_anything_else(tmp_path, capsys, arguments):
    (tmp_path / "file").write_text("content")
    with pytest.raises(SystemExit) as stop:
        main(arguments.replace("PLACE", str(tmp_path / "file" / "made")).split())
    assert stop.value.code == 2
    assert "cannot be written" in (told := capsys.readouterr().err) and "name another place" in told


def test_a_full_disk_is_known_behind_other_errors():
    def raised(what, cause):
        try:
            raise what from cause
        except type(what) as error:
            return error

    full = OSError(errno.ENOSPC, "No space left on device")
    assert full_disk(raised(ValueError("cannot be read"), full))
    assert full_disk(raised(ValueError("cannot be read"), raised(KeyError("x"), OSError(errno.EDQUOT, "quota"))))
    assert not full_disk(raised(ValueError("cannot be read"), OSError(errno.EACCES, "denied")))
    assert not full_disk(None)


def test_a_full_disk_is_told_in_a_sentence(monkeypatch, capsys):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device", "film.mp4")

    monkeypatch.setattr("mmssl.cli.build_app", lambda: full)
    with pytest.raises(SystemExit) as stop:
        main(["doctor"])
    assert stop.value.code == 1
    assert capsys.readouterr().err == (
        "mmssl: the disk is full (film.mp4); what was there before is whole; make room, then run the command again\n"
    )
