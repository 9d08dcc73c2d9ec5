import pytest

from mmssl.files import make_aside, make_folder_aside, write_aside


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
