"""Films in tar files are read in place, by everything that reads films, and found again by any tar."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest
import torch

from mmssl.data.decode import answer
from mmssl.data.playback import play_frames
from mmssl.data.probe import probe
from mmssl.data.shards import Member, extract, find_member, look_up, write_shard
from mmssl.data.toyworld import load_truth
from mmssl.types import Frames, InputError, MediaError, Source, Wave
from tests.small_clips import make_clip

NAMES = ("a/talk.mp4", "a, b (ü) %d.mp4", "x" * 120 + ".mp4")


@pytest.fixture(scope="module")
def films(tmp_path_factory) -> list[Path]:
    root = tmp_path_factory.mktemp("films")
    for number, name in enumerate(("one.mp4", "two.mkv", "three.mp4")):
        make_clip(root / name, seconds=0.6 + 0.2 * number)
    return [root / name for name in ("one.mp4", "two.mkv", "three.mp4")]


@pytest.fixture(scope="module")
def members(films, tmp_path_factory) -> list[Member]:
    folder = tmp_path_factory.mktemp("a, folder")
    return write_shard(folder / "films-00000.tar", list(zip(films, NAMES, strict=True)))


def test_a_shard_is_an_ordinary_tar(films, members):
    with tarfile.open(members[0].shard) as tar:
        assert [info.name for info in tar] == list(NAMES)
        for film, member, info in zip(films, members, tar, strict=True):
            assert (info.offset_data, info.size) == (member.offset, member.size)
            assert tar.extractfile(info).read() == film.read_bytes()
    again = write_shard(members[0].shard.with_name("other.tar"), list(zip(films, NAMES, strict=True)))
    assert again[0].shard.read_bytes() == members[0].shard.read_bytes()


def test_a_path_says_where_a_film_is(members, tmp_path):
    for member in members:
        assert find_member(member.path) == member
        assert look_up(member.path) == (member.size, member.shard.stat().st_mtime_ns)
    for plain in ("a.tar", "a.tar/x.mp4", "a.tar/12+x/y.mp4", "12+12/y.mp4"):
        assert find_member(Path(plain)) is None
    real = tmp_path / "x.tar" / "0+5" / "film.mp4"  # somebody's folder may be called so
    make_clip(real, seconds=0.5)
    assert find_member(real) is None and probe(str(real))["reason"] is None


def test_it_reads_as_the_film_itself(films, members):
    for film, member in zip(films, members, strict=True):
        requests = [Frames((0.0, 0.22, 0.5), 24), Wave(0.1, 0.4, 16_000)]
        one, other = answer(Source("film", film), requests), answer(Source("film", member.path), requests)
        assert all(torch.equal(one[request], other[request]) for request in requests)
        assert probe(str(member.path), motion=True) == probe(str(film), motion=True)
        shown = [list(play_frames(path, fps=10)) for path in (film, member.path)]
        assert len(shown[0]) == len(shown[1]) > 4
        assert load_truth(member.path) is None


def test_what_is_not_there_is_an_error(members, tmp_path):
    request = Frames((0.0,), 24)
    member = members[1]
    for bad in (
        member._replace(shard=tmp_path / "none.tar"),
        member._replace(offset=member.offset - 512),
        member._replace(size=member.size // 2),
        member._replace(offset=member.shard.stat().st_size),
    ):
        with pytest.raises(MediaError, match=bad.shard.name):
            answer(Source("film", bad.path), [Frames((0.55,), 24)] if bad.size < member.size else [request])
    assert probe(str(member._replace(shard=tmp_path / "none.tar").path))["reason"] == "vanished, or a link to nothing"
    for backend in ("decord", "torchcodec"):
        with pytest.raises(
            (InputError, MediaError), match=r"in a shard, which only backend pyav reads|cannot be loaded|not installed"
        ):
            answer(Source("film", member.path), [request], backend=backend)


def test_films_come_out_as_they_went_in(films, members, tmp_path):
    for film, member in zip(films, members, strict=True):
        extract(member, tmp_path / "out.mp4")
        assert (tmp_path / "out.mp4").read_bytes() == film.read_bytes()
    size = members[-1].shard.stat().st_size
    with pytest.raises(OSError, match="ends 10 bytes before"):
        extract(members[-1]._replace(offset=size - members[-1].size + 10), tmp_path / "short.mp4")
    assert not (tmp_path / "short.mp4").exists()
