"""Retrieval protocols: exactly their clips or no figure, ties by average, several captions of a clip, files under the datasets' own names."""

import json
from itertools import pairwise, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmssl.downstream.metrics.retrieval import chance_of_hit, hits, place, ranks
from mmssl.downstream.probe.retrieval import Side, evaluate_retrieval, figures, spread_windows
from mmssl.downstream.probe.retrieval_protocols import (
    PROTOCOLS,
    Item,
    Protocol,
    find_protocol,
    read_audiocaps,
    read_cavmae,
    read_msrvtt,
    read_vggsound,
    read_youcook2,
)
from mmssl.rng import rng_for
from mmssl.types import InputError, Source, Span
from tests.fake_world import HIGH, LOW, squares, tone, write_film
from tests.test_spaces import colour_space


def naive_place(scores, own, k):
    """Expected rank of the first own item, and the chance that it is among the first k, over all orders that the scores allow."""
    found = []
    for order in permutations(range(len(scores))):
        if all(scores[a] >= scores[b] for a, b in pairwise(order)):
            found.append(1 + next(number for number, item in enumerate(order) if own[item]))
    return np.mean(found), np.mean([rank <= k for rank in found])


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 6), st.integers(1, 3), st.integers(0, 10_000))
def test_places_match_a_count_of_all_orders(items, levels, seed):
    rng = rng_for(seed, "places")
    scores = rng.integers(levels, size=(3, items)).astype(float)
    own = rng.random((3, items)) < 0.4
    own[np.arange(3), rng.integers(items, size=3)] = True
    placed = place(scores, own)
    for row in range(3):
        rank, hit = naive_place(scores[row], own[row], 2)
        assert placed.ranks[row] == pytest.approx(rank)
        assert placed.hits(2)[row] == pytest.approx(hit)


def test_with_one_own_item_it_is_the_older_metric():
    scores = rng_for(0, "one").integers(5, size=(30, 30)).astype(float)
    placed = place(scores, np.eye(30, dtype=bool))
    assert placed.ranks == pytest.approx(ranks(scores))
    for k in (1, 5, 10):
        assert placed.hits(k) == pytest.approx(hits(scores, k))


def test_constant_embeddings_score_chance():
    queries = Side(np.ones((12, 3), np.float32), np.repeat(np.arange(4), 3))
    found = figures(Side(np.ones((4, 3), np.float32), np.arange(4)), queries)
    for k in (1, 5, 10):
        assert found[f"R@{k}"]["value"] == pytest.approx(found[f"R@{k}"]["chance"])
    assert found["R@1"]["chance"] == pytest.approx(3 / 12)
    assert found["median_rank"]["value"] == pytest.approx(13 / 4)
    assert chance_of_hit(np.array([5]), 10, 6)[0] == pytest.approx(1.0)
    with pytest.raises(ValueError, match="1 of 2 queries have no own item"):
        place(np.ones((2, 2)), np.array([[True, False], [False, False]]))


def test_figures_match_the_scores_also_by_cells(monkeypatch):
    from mmssl.downstream.probe import retrieval

    monkeypatch.setattr(retrieval, "BLOCK", 7)
    rng = rng_for(1, "figures")
    texts, clips = rng.normal(size=(40, 6)).astype(np.float32), rng.normal(size=(20, 6)).astype(np.float32)
    owner = np.repeat(np.arange(20), 2)
    scores = texts @ clips.T
    there = figures(Side(texts, owner), Side(clips, np.arange(20)))
    first = [(scores[q] > scores[q, owner[q]]).sum() + 1 for q in range(40)]
    assert there["R@5"]["value"] == pytest.approx(np.mean([rank <= 5 for rank in first]))
    assert there["R@5"]["n"] == 20
    assert there["median_rank"]["value"] == pytest.approx(np.median(first))
    back = figures(Side(clips, np.arange(20)), Side(texts, owner))
    first = [1 + (scores[:, c] > scores[owner == c, c].max()).sum() for c in range(20)]
    assert back["median_rank"]["value"] == pytest.approx(np.median(first))
    cells = rng.normal(size=(20, 4, 6)).astype(np.float32)
    by_cells = np.einsum("qd,gkd->qkg", clips, cells).max(axis=1)
    first = ranks(by_cells)
    found = figures(Side(clips, np.arange(20)), Side(clips, np.arange(20), cells))
    assert found["median_rank"]["value"] == pytest.approx(np.median(first))
    found = figures(Side(clips, np.arange(20), cells), Side(clips, np.arange(20)))
    assert found["median_rank"]["value"] == pytest.approx(np.median(ranks(by_cells.T)))


# Files --------------------------------------------------------------------------------------------------------------------


def test_the_datasets_files_are_read(tmp_path):
    path = tmp_path / "list"
    path.write_text("key,vid_key,video_id,sentence\nret0,msr9770,video9770,a person is connecting something\n")
    assert read_msrvtt(path) == [Item("video9770", ("video9770",), "video9770", None, ("a person is connecting something",))]
    path.write_text("key;vid_key;video_id;sentence\nret0;msr9770;video9770;a person is connecting something\n")
    assert read_msrvtt(path)[0].captions == ("a person is connecting something",)
    path.write_text("end,start,task,text,video_id\n60,47,226,pick the ends off,xHr8X2Wpmno\n89,67,226,combine,xHr8X2Wpmno\n")
    first, second = read_youcook2(path)
    assert (first.film, first.span, first.captions) == ("xHr8X2Wpmno", Span(47.0, 60.0), ("pick the ends off",))
    assert first.id != second.id
    path.write_text(
        '---g-f_I2yQ,1,people marching,test\n--0PQM4-hqg,30,waterfall burbling,train\nx,0,"bird chirping, tweeting",test\n'
    )
    clips = read_vggsound(path)
    assert [clip.names[0] for clip in clips] == ["---g-f_I2yQ_000001", "x_000000"]
    assert clips[0].span == Span(1.0, 11.0)
    assert "---g-f_I2yQ_1000_11000" in clips[0].names
    path.write_text(
        'audiocap_id,youtube_id,start_time,caption\n1,vfY,130,"Rustling, ducks"\n2,tdW,60,Applause\n3,vfY,130,Ducks quack\n'
    )
    clips = read_audiocaps(path)
    assert [(clip.film, clip.span.start, clip.captions) for clip in clips] == [
        ("vfY", 130.0, ("Rustling, ducks", "Ducks quack")),
        ("tdW", 60.0, ("Applause",)),
    ]
    path.write_text(json.dumps({"data": [{"video_id": "abc_000010", "labels": "x"}]}))
    assert read_cavmae(path)[0].names == ("abc_000010",)


@pytest.mark.parametrize(
    ("read", "text", "why"),
    [
        (read_msrvtt, "key,video\nret0,video1\n", "lacks the columns video_id, sentence"),
        (read_msrvtt, "key,vid_key,video_id,sentence\n", "has no rows"),
        (read_msrvtt, "key,vid_key,video_id,sentence\n1,2,video1,\n", "line 2: .* must all be filled in"),
        (read_youcook2, "end,start,task,text,video_id\nlate,47,226,pick,x\n", "'late' is no number of seconds"),
        (read_vggsound, "a,b,c\n", "is no list of VGGSound"),
        (read_cavmae, "[]", "is no list of CAV-MAE's"),
    ],
)
def test_files_that_are_none_are_refused(tmp_path, read, text, why):
    (tmp_path / "list").write_text(text)
    with pytest.raises(InputError, match=why):
        read(tmp_path / "list")
    with pytest.raises(InputError, match=r"cannot be read|is no list"):
        read(tmp_path / "none")


def test_protocols_have_the_published_numbers():
    assert {name: (protocol.clips, protocol.captions) for name, protocol in PROTOCOLS.items()} == {
        "msrvtt-1ka": (1000, 1000),
        "youcook2": (3350, 3350),
        "vggsound": (15446, 0),
        "vggsound-5": (1545, 0),
        "audiocaps": (975, 4875),
        "audiocaps-val": (495, 2475),
    }
    with pytest.raises(InputError, match="no retrieval protocol 'msrvtt'; known: msrvtt-1ka"):
        find_protocol("msrvtt")


# Clips --------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Four clips of 1 s, each of its own colour and pitch: a whole film, and three called as VGGSound's are."""
    folder = tmp_path_factory.mktemp("clips")
    yellow = squares(None, None)
    yellow[12:28, 12:28] = (220, 200, 30)
    shown = {"red": squares((20, 20), None), "green": squares(None, (20, 20)), "both": yellow, "none": squares(None, None)}
    heard = {
        "red": tone(LOW, 1.0),
        "green": tone(HIGH, 1.0),
        "both": (tone(LOW, 1.0) + tone(HIGH, 1.0)) / 2,
        "none": tone(3000.0, 1.0),
    }
    sources = []
    for name, picture in shown.items():
        path = write_film(folder / f"{name}_000003.mp4", lambda t, picture=picture: picture, heard[name], seconds=1.0)
        sources.append(Source(path.stem, path, 10.0, 64, 64, Span(0.0, 1.0), Span(0.0, 1.0)))
    return sources


def items_of(sources):
    return [Item(source.id, (source.id,), source.id.partition("_")[0], Span(3.0, 13.0)) for source in sources]


FOUR = Protocol("four", 4, 0, ("audio", "video"), lambda path: [])


def test_each_sound_finds_its_picture_and_back(clips):
    found = evaluate_retrieval(colour_space(), FOUR, items_of(clips), clips, windows=2)
    assert (found["protocol"], found["clips"], found["missing"]) == ("four", 4, {})
    assert set(found["retrieval"]) == {"audio_to_video", "video_to_audio"}
    for entries in found["retrieval"].values():  # a grey picture fits no sound, and no picture fits a tone that is neither
        assert 0.75 <= entries["R@1"]["value"] <= 1.0
    pooled = evaluate_retrieval(colour_space(cells=False), FOUR, items_of(clips), clips, windows=2)
    assert pooled["retrieval"]["video_to_audio"]["R@5"]["value"] == 1.0


def test_a_protocol_is_whole_or_has_no_name(clips, tmp_path):
    space = colour_space()
    with pytest.raises(
        InputError,
        match=r"1 of the 4 clips of four cannot be used \(no such file, .*: 1\); complete them, or give --allow-missing",
    ):
        evaluate_retrieval(space, FOUR, items_of(clips), clips[:3])
    with pytest.raises(InputError, match="the list has 3 clips and 0 captions, four has 4 and 0"):
        evaluate_retrieval(space, FOUR, items_of(clips[:3]), clips)
    part = evaluate_retrieval(space, FOUR, items_of(clips), clips[:3], allow_missing=True)
    assert (part["protocol"], part["of"], part["clips"], part["clips_of_protocol"]) == (None, "four", 3, 4)
    assert part["missing"] == {"no such file, or one more link to a file that is there": 1}
    mute = write_film(tmp_path / "none_000003.mp4", lambda t: squares(None, None), None, seconds=1.0)
    silent = [*clips[:3], Source("none_000003", mute, 10.0, 64, 64, Span(0.0, 1.0))]
    with pytest.raises(InputError, match="no sound: 1"):
        evaluate_retrieval(space, FOUR, items_of(silent), silent)
    with pytest.raises(InputError, match="1 of the 4 clips of four could be used; retrieval needs at least 2"):
        evaluate_retrieval(space, FOUR, items_of(clips), clips[:1], allow_missing=True)
    with pytest.raises(InputError, match="2 files are called red_000003"):
        evaluate_retrieval(space, FOUR, items_of(clips), [*clips, clips[0]])
    with pytest.raises(
        InputError, match=r"msrvtt-1ka compares text and pictures, and objective \w+ joins .*--modality video,audio"
    ):
        evaluate_retrieval(space, PROTOCOLS["msrvtt-1ka"], [], clips)
    with pytest.raises(InputError, match="name two modalities"):
        evaluate_retrieval(space, FOUR, items_of(clips), clips, kinds=("audio", "audio"))


def test_other_modalities_than_the_protocols_do_not_bear_its_name(clips):
    other = Protocol("four", 4, 0, ("video", "audio"), lambda path: [])
    assert evaluate_retrieval(colour_space(), other, items_of(clips), clips, kinds=("audio", "video"))["protocol"] is None


def test_clips_are_cut_out_of_films(tmp_path):
    shown = [squares((20, 20), None), squares(None, (20, 20))]
    sound = np.concatenate([tone(LOW, 2.0), tone(HIGH, 2.0)])
    path = write_film(tmp_path / "film.mp4", lambda t: shown[int(t >= 2.0)], sound, seconds=4.0)
    film = Source("a/film", path, 10.0, 64, 64, Span(0.0, 4.0), Span(0.0, 4.0))
    items = [Item("early", ("film_0_2",), "film", Span(0.0, 2.0)), Item("late", ("film_2_4",), "film", Span(2.0, 4.0))]
    two = Protocol("two", 2, 0, ("audio", "video"), lambda path: [])
    found = evaluate_retrieval(colour_space(), two, items, [film])
    assert found["retrieval"]["audio_to_video"]["R@1"]["value"] == 1.0
    late = [items[0], Item("past", (), "film", Span(30.0, 40.0))]
    with pytest.raises(InputError, match="the film ends before the clip does: 1"):
        evaluate_retrieval(colour_space(), two, late, [Source("film", path, 10.0, 64, 64, Span(0.0, 14.0), Span(0.0, 14.0))])


def test_windows_lie_evenly_over_a_clip():
    space = colour_space(seconds=1.0)
    source = Source("x", "x.mp4", 10.0, 64, 64, Span(2.0, 6.0), Span(2.0, 2.5))
    assert [span.start for span in spread_windows(space, "video", source, 3)] == pytest.approx([2.0, 3.5, 5.0])
    assert [span.start for span in spread_windows(space, "video", source, 1)] == pytest.approx([3.5])
    assert spread_windows(space, "audio", source, 3) == [Span(2.0, 2.5)]
