"""Which spaces a run has, how windows are cut for them, and what a picture's cells stand for."""

import dataclasses

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from mmssl.cuts.captions import CaptionViews, WindowViews
from mmssl.cuts.pairs import PairViews, SyncViews
from mmssl.downstream.spaces import choose_space, joint_space, spread_cells
from mmssl.objectives.rgb_flow import FlowViews
from mmssl.rng import rng_for
from mmssl.types import Cue, Flow, Frames, InputError, Source, Span, Wave
from tests.fake_world import ColourEncoder, ColourPitch, PitchEncoder, squares
from tests.tiny_av import TinyFlow, TinyFrames, TinySounds, TinyText, build, tiny_encoders


class CellPitch(ColourPitch):
    """`ColourPitch` that says that its cells decide."""

    def embed_cells(self, features):
        return F.normalize(features.grid, dim=-1)


def colour_space(*, cells=True, **views):
    encoders = {"video": ColourEncoder(), "audio": PitchEncoder()}
    cuts = PairViews(**{"frames": 1, "seconds": 0.4, "fps": 0.0, **views})
    objective = (CellPitch if cells else ColourPitch)(encoders=encoders, views=cuts)
    return joint_space("colour_pitch", objective, encoders)


def film(**more):
    span = Span(0.0, 2.9)
    return Source("film", "film.mp4", 25.0, 64, 64, **{"video": span, "audio": span, **more})


def test_windows_follow_the_stride_and_cover_the_end():
    space = colour_space(seconds=1.0)
    assert [span.start for span in space.spans("video", film(), 1.0)] == pytest.approx([0.0, 1.0, 1.9])
    assert [span.start for span in space.spans("audio", film(), 0.5)] == pytest.approx([0.0, 0.5, 1.0, 1.5, 1.9])
    assert space.spans("video", film(video=Span(0.5, 0.8)), 1.0) == [Span(0.5, 0.8)]
    assert space.spans("audio", film(audio=None), 1.0) == []


def test_windows_too_quiet_to_be_trained_on_are_left_out():
    source = film(loudness=(-20.0,) * 10 + (-90.0,) * 10 + (-20.0,) * 9)
    assert [span.start for span in colour_space(seconds=1.0).spans("audio", source, 1.0)] == pytest.approx([0.0, 1.9])


@pytest.mark.parametrize(
    ("name", "encoders", "views", "kind", "times", "seconds"),
    [
        ("av_nce", "av", PairViews(frames=2), "video", (-0.25, 0.25), 1.0),  # drawn at random, one in each half of the second
        ("av_nce", "av", PairViews(frames=2, fps=10.0), "video", (-0.05, 0.05), 1.0),
        ("mil_nce", "text", CaptionViews(frames=2, fps=2.0), "video", (-0.25, 0.25), 1.0),
        ("mil_nce", "text", CaptionViews(frames=1, fps=4.0), "video", (0.0,), 0.25),
        ("subtitle_alignment", "text", WindowViews(seconds=6.4, frames=2), "video", (-0.1, 0.1), 0.4),
        ("rgb_flow", "flow", FlowViews(flows=4, fps=12.5), "flow", (-0.12, -0.04, 0.04, 0.12), 0.32),
        ("rgb_flow", "flow", FlowViews(flows=4, fps=12.5), "video", (0.0,), 0.32),
    ],
)
def test_cuts_are_read_off_the_views(name, encoders, views, kind, times, seconds):
    torch.manual_seed(0)
    banks = {
        "av": tiny_encoders(),
        "text": {"video": TinyFrames(), "text": TinyText()},
        "flow": {"video": TinyFrames(), "flow": TinyFlow()},
    }
    space = joint_space(name, build(name, banks[encoders], views=views), banks[encoders])
    cut = space.cuts[kind]
    assert cut.shape.times == pytest.approx(times, abs=1e-5)
    assert cut.seconds == pytest.approx(seconds, abs=1e-5)
    shown = torch.zeros(2, len(times), 2 if kind == "flow" else 3, 16, 16, dtype=torch.float32 if kind == "flow" else torch.uint8)
    assert space.embed(kind, shown).vectors.shape == (2, space.dim)


def test_requests_stay_within_the_stream():
    space = colour_space(frames=2, fps=4.0, seconds=1.0)
    early = space.request("video", film(video=Span(0.45, 2.0)), Span(0.0, 1.0))
    assert isinstance(early, Frames) and early.times == pytest.approx((0.45, 0.625))
    short = space.request("audio", film(), Span(0.5, 0.8))
    assert isinstance(short, Wave) and short.seconds == pytest.approx(0.3)
    assert space.fit("audio", torch.ones(2400)).shape == (8000,)
    encoders = {"video": TinyFrames(), "flow": TinyFlow()}
    flow = joint_space("rgb_flow", build("rgb_flow", encoders, views=FlowViews(flows=2, fps=5.0, step=0.5)), encoders)
    asked = flow.request("flow", film(video=Span(0.0, 2.0)), Span(1.6, 2.0))
    assert isinstance(asked, Flow) and max(asked.times) + asked.step <= 2.0


def test_captions_are_joined_as_the_views_join_them():
    encoders = {"video": TinyFrames(), "text": TinyText()}
    cues = (Cue(0.0, 0.5, "one"), Cue(0.6, 1.0, "two"), Cue(2.0, 2.5, " "), Cue(3.0, 3.5, "three"))
    space = joint_space("mil_nce", build("mil_nce", encoders, views=CaptionViews(pause=0.2)), encoders)
    assert [cue.text for cue in space.captions(film(cues=cues))] == ["one two", "three"]
    assert space.spans("text", film(cues=cues), 1.0) == [Span(0.0, 1.0), Span(3.0, 3.5)]


def naive_spread(cells, count):
    mean = np.mean(cells, axis=0)
    chosen = [min(range(len(cells)), key=lambda i: cells[i] @ mean)]
    while len(chosen) < min(count, len(cells)):
        rest = [i for i in range(len(cells)) if i not in chosen]
        chosen.append(min(rest, key=lambda i: max(float(cells[i] @ cells[j]) for j in chosen)))
    return chosen


def test_cells_kept_are_those_of_the_naive_search():
    rng = rng_for(0, "cells")
    cells = F.normalize(torch.tensor(rng.normal(size=(6, 9, 5)), dtype=torch.float64), dim=-1)
    for count in (1, 4, 9, 20):
        kept, numbers = spread_cells(cells, count)
        assert numbers.tolist() == [naive_spread(picture.numpy(), count) for picture in cells]
        assert torch.equal(kept[3, 0], cells[3, numbers[3, 0]])
    equal, _ = spread_cells(torch.ones(1, 5, 3), 4)
    assert equal.shape == (1, 4, 3)


def test_a_small_thing_is_among_the_cells_kept_and_its_place_is_told():
    picture = torch.from_numpy(squares((12, 44), None, side=8)).permute(2, 0, 1)[None, None]
    found = colour_space().embed("video", picture, cells=2)
    assert found.cells is not None and found.places is not None
    redness = found.cells[0, :, 0]
    assert redness.max() > 0.9
    moment, y, x = found.places[0, int(redness.argmax())]
    assert (moment, y, x) == pytest.approx((0.5, 44 / 64, 12 / 64), abs=8 / 64)
    assert found.vectors[0, 0] < 0.9  # the mean of the picture says less
    assert colour_space(cells=False).embed("video", picture).cells is None


def test_a_digest_tells_weights_and_cuts_apart():
    def digest(seed=0, **views):
        encoders = tiny_encoders(seed=seed)
        torch.manual_seed(1)
        return joint_space("av_nce", build("av_nce", encoders, views=PairViews(**views)), encoders).digest

    assert digest() == digest()
    assert len({digest(), digest(seed=1), digest(frames=2), digest(frames=2, fps=8.0)}) == 4


def test_objectives_without_a_space_say_so():
    encoders = tiny_encoders()
    objectives = {"l3": build("l3", encoders), "av_nce": build("av_nce", encoders)}
    assert choose_space(objectives, encoders).name == "av_nce"
    assert choose_space(objectives, encoders).dim == 128
    with pytest.raises(InputError, match=r"no objective 'mil_nce'; it has l3, av_nce"):
        choose_space(objectives, encoders, "mil_nce")
    with pytest.raises(InputError, match="l3 has no joint space"):
        choose_space(objectives, encoders, "l3")
    with pytest.raises(InputError, match=r"joins pictures and sound.*possible queries are --image or --video, --audio"):
        choose_space(objectives, encoders).check("text")
    flow = {"video": TinyFrames(), "flow": TinyFlow()}
    pixel = build("rgb_flow", flow, form="pixel", frame_augment=dataclasses.replace(PLAIN_FLOW, crop=1.0))
    with pytest.raises(InputError, match='form "pixel" compares cells'):
        choose_space({"rgb_flow": pixel}, flow)


PLAIN_FLOW = build("rgb_flow", {"video": TinyFrames(), "flow": TinyFlow()}).frame_augment


def test_forms_that_score_pooled_pictures_keep_no_cells():
    encoders = tiny_encoders()
    pictures = torch.randint(255, (2, 1, 3, 16, 16), dtype=torch.uint8)
    kept = {}
    for name, arguments in (
        ("av_nce", {"pooling": "max"}),
        ("av_nce", {"pooling": "mean"}),
        ("avenet", {"form": "avol"}),
        ("avenet", {}),
    ):
        space = joint_space(name, build(name, encoders, **arguments), encoders)
        kept[name, *arguments.values()] = space.embed("video", pictures, cells=3).cells
    shapes = {key: None if cells is None else cells.shape for key, cells in kept.items()}
    assert shapes == {
        ("av_nce", "max"): (2, 3, 128),
        ("av_nce", "mean"): None,
        ("avenet", "avol"): (2, 3, 128),
        ("avenet",): None,
    }
    assert np.linalg.norm(kept["av_nce", "max"], axis=-1) == pytest.approx(1.0, abs=1e-4)


def test_embeddings_without_a_direction_are_refused():
    encoders = {"video": TinyFrames(), "audio": TinySounds(parts=8)}
    views = SyncViews(frames=8, fps=10.0, seconds=1.0)
    space = joint_space("avts", build("avts", encoders, views=views, bins=4, centre=True), encoders)
    still = torch.full((1, 8, 3, 16, 16), 90, dtype=torch.uint8)
    with pytest.raises(InputError, match="compares what changes over time"):
        space.embed("video", still)
