import pytest

from mmssl.files import make_aside, write_aside


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
