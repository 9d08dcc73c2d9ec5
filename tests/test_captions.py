from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mmssl.cuts.captions import CaptionViews, WindowViews, joined_cues, nearest_cues, usable_cues
from mmssl.types import Box, Cue, InputError, InputSpec, Source, Span


def film(cues, *, seconds: float = 10.0) -> Source:
    return Source("f", Path("f.mp4"), 25.0, 320, 240, Span(0.0, seconds), None, tuple(cues))


def line(count: int, *, first: float = 0.0, lasts: float = 0.9) -> list[Cue]:
    """One caption a second, captions of very different length."""
    return [Cue(first + k, first + k + lasts, " ".join([f"word{k}"] * (1 + k % 4))) for k in range(count)]


def resolved(**arguments) -> CaptionViews:
    return CaptionViews(size=16, length=8, tokenizer="tiny", **arguments).resolve(InputSpec(), InputSpec())


def window(**arguments) -> WindowViews:
    given = {"seconds": 4.0, "steps": 8, "captions": 3} | arguments
    return WindowViews(size=16, length=8, tokenizer="tiny", **given).resolve(InputSpec(), InputSpec())


def test_the_bag_holds_the_nearest_captions_once_each_also_at_the_ends():
    views = resolved(candidates=4)
    source = film(line(10))
    near = []
    for seed in range(300):
        plan = views.plan(source, np.random.default_rng(seed))
        texts = plan.requests["text"].texts
        assert plan.labels["captions"] == 4
        assert len(set(texts)) == 4
        time = plan.labels["time"]
        numbers = [int(text.split()[0][4:]) for text in texts]
        gaps = [max(k - time, time - k - 0.9, 0.0) for k in range(10)]
        assert {round(gaps[k], 6) for k in numbers} == {round(gap, 6) for gap in sorted(gaps)[:4]}
        assert gaps[numbers[0]] == min(gaps)
        near.append(numbers[0])
    assert set(near) == set(range(10))


def test_a_film_with_few_captions_has_a_smaller_bag_and_repeats_only_what_does_not_count():
    plan = resolved(candidates=4).plan(film(line(2, first=4.0)), np.random.default_rng(0))
    texts = plan.requests["text"].texts
    assert plan.labels["captions"] == 2
    assert len(set(texts[:2])) == 2
    assert texts[2:] == texts[:1] * 2
    same = [Cue(1.0, 2.0, "again"), Cue(3.0, 4.0, "again"), Cue(5.0, 6.0, "other")]
    assert [cue.text for cue in nearest_cues(tuple(same), 3.5, 4)] == ["again", "other"]


def test_the_clip_lies_in_the_film_and_its_middle_in_a_caption():
    views = resolved(frames=5, fps=5.0)
    source = film([Cue(0.0, 1.0, "start"), Cue(4.0, 6.0, "middle"), Cue(9.5, 10.0, "end")])
    times = []
    for seed in range(300):
        plan = views.plan(source, np.random.default_rng(seed))
        shown = plan.requests["video"].times
        assert len(shown) == 5 and shown[0] >= 0.0 and shown[-1] < 10.0
        assert np.allclose(np.diff(shown), 0.2)
        assert plan.labels["time"] == pytest.approx(np.mean(shown))
        times.append(plan.labels["time"])
    inside = [time for time in times if 3.0 < time < 7.0]
    assert min(inside) >= 4.0 and max(inside) <= 6.0 and max(inside) - min(inside) > 1.5
    assert min(times) == 0.5 and max(times) == 9.5


def test_what_cannot_be_cut_is_rejected_with_a_reason():
    views = resolved(frames=5, fps=5.0)
    assert views.reject(film(line(3))) is None
    assert views.reject(Source("s", Path("s.mp3"), audio=Span(0.0, 9.0), cues=tuple(line(3)))) == "no picture"
    assert views.reject(film([])) == "no captions"
    assert views.reject(film([Cue(1.0, 2.0, "  ")])) == "no captions"
    assert views.reject(film([Cue(11.0, 12.0, "after the picture")])) == "no captions"
    assert views.reject(film([Cue(0.0, 0.2, "hi")], seconds=0.5)) == "shorter than 1.0 s"
    assert window().reject(film(line(1))) == "fewer than 2 captions"
    assert window().reject(film(line(3), seconds=3.9)) == "shorter than 4.0 s"
    assert window().reject(film([Cue(0.0, 1.0, "a"), Cue(8.0, 9.0, "b")])) == "no two captions within 4.0 s"
    assert window().reject(film(line(9))) is None


@pytest.mark.parametrize("make", [resolved, window], ids=["clip", "window"])
def test_a_region_holds_all_crops_is_what_search_sees_and_needs_the_size_of_the_picture(make):
    source, region = film(line(10)), (0.25, 0.5, 0.375, 0.5)  # 120 x 120 of 320 x 240 pixels
    views = make(region=region, crop=(0.5, 1.0))
    boxes = [views.plan(source, np.random.default_rng(seed)).requests["video"].box for seed in range(100)]
    assert all(0.25 <= box.left <= 0.625 - box.width + 1e-9 and 0.5 <= box.top <= 1.0 - box.height + 1e-9 for box in boxes)
    assert views.whole(source) == Box(*region)
    assert make().whole(source) is None
    unknown = replace(source, width=0, height=0)
    assert make().reject(unknown) is None
    assert views.reject(unknown) == "size unknown, so views.region cannot be cut"
    with pytest.raises(InputError, match="region is"):
        make(region=(0.5, 0.0, 0.6, 1.0))


def test_words_of_an_alignment_are_joined_by_their_pauses():
    words = (Cue(0.0, 0.3, "bin"), Cue(0.3, 0.6, "blue"), Cue(2.0, 2.4, "now"))
    assert joined_cues(words, 0.2) == (Cue(0.0, 0.6, "bin blue"), words[2])
    assert joined_cues(words, 0.0) == words
    assert len(usable_cues(film(line(5)), 0.5)) == 1
    many = tuple(Cue(0.1 * k, 0.1 * k + 0.1, "w") for k in range(50))
    assert [len(cue.text.split()) for cue in joined_cues(many, 0.05)] == [20, 20, 10]


def test_a_window_holds_two_captions_or_more_in_order_with_their_times_in_it():
    views = window()
    source = film(line(10))
    seen = set()
    for seed in range(200):
        plan = views.plan(source, np.random.default_rng(seed))
        shown, texts, count = plan.requests["video"].times, plan.requests["text"].texts, int(plan.labels["captions"])
        start = shown[0] - 0.25
        assert len(shown) == 8 and 0.0 <= start <= 6.0
        assert np.allclose(np.diff(shown), 0.5)
        numbers = [int(text.split()[0][4:]) for text in texts[:count]]
        assert numbers == list(range(numbers[0], numbers[0] + count)) and count >= 2
        assert texts[count:] == texts[:1] * (3 - count)
        for k, number in enumerate(numbers):
            assert plan.labels[f"start_{k}"] == pytest.approx(max(0.0, number - start))
            assert plan.labels[f"end_{k}"] == pytest.approx(min(4.0, number + 0.9 - start))
            assert 0.0 <= number + 0.45 - start < 4.0
        seen.add(numbers[0])
    assert seen >= set(range(7))


def test_steps_have_as_many_frames_as_the_encoder_was_built_for():
    text = InputSpec(tokens=8, tokenizer="tiny")
    assert WindowViews(size=16).resolve(InputSpec(), text).frames == 1
    assert WindowViews(size=16).resolve(InputSpec(frames=8), text).frames == 8
    assert WindowViews(size=16, frames=2).resolve(InputSpec(frames=8), text).frames == 2


def test_rare_captions_are_found():
    source = film([Cue(1.0, 1.2, "a"), Cue(4.9, 5.1, "b"), Cue(100.0, 101.0, "c")], seconds=2000.0)
    starts = []
    for seed in range(50):
        plan = window().plan(source, np.random.default_rng(seed))
        assert plan.requests["text"].texts[:2] == ("a", "b")
        starts.append(plan.requests["video"].times[0] - 0.25)
    assert min(starts) >= 1.0 - 1e-6 and max(starts) <= 1.1 + 1e-6


def test_where_a_caption_stands_in_a_window_says_little_about_where_in_the_film():
    """The first caption of the film must not always be the first steps of a window, nor a place in the window one in the film."""
    views = window(seconds=3.0)
    places = {0: [], 5: [], 9: []}
    for seed in range(600):
        plan = views.plan(film(line(20), seconds=20.0), np.random.default_rng(seed))
        for k in range(int(plan.labels["captions"])):
            number = int(plan.requests["text"].texts[k].split()[0][4:])
            if number in places:
                places[number].append((plan.labels[f"start_{k}"] + plan.labels[f"end_{k}"]) / 2)
    for number in (5, 9):
        assert min(places[number]) < 0.7 and max(places[number]) > 2.3


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: CaptionViews(candidates=0), "candidates is 0"),
        (lambda: CaptionViews(frames=0), "frames is 0"),
        (lambda: CaptionViews(fps=0.0), "fps is 0.0"),
        (lambda: CaptionViews(pause=-1.0), "pause is -1.0"),
        (lambda: CaptionViews(crop=(0.9, 0.8)), "crop is"),
        (lambda: WindowViews(captions=1), "captions is 1"),
        (lambda: WindowViews(captions=4, steps=7), "steps is 7"),
        (lambda: WindowViews(seconds=0.0), "seconds is 0.0"),
        (lambda: CaptionViews().resolve(InputSpec(), InputSpec(tokens=8, tokenizer="tiny")), "views.size"),
        (lambda: CaptionViews().plan(film(line(3)), np.random.default_rng(0)), "still has a None"),
        (lambda: WindowViews().plan(film(line(3)), np.random.default_rng(0)), "still has a None"),
    ],
)
def test_bad_values_are_named(make, says):
    with pytest.raises(InputError, match=says):
        make()
