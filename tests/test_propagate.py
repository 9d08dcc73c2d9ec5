from __future__ import annotations

import weakref

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from mmssl.downstream.cells import Cells, cell_shares
from mmssl.downstream.follow import track
from mmssl.downstream.metrics.segmentation import score_sequence, summarize
from mmssl.downstream.propagate import Propagation, look_up, propagate
from mmssl.downstream.tracking_baselines import drift, stay
from mmssl.encoders.frame_resnet import FrameResNet
from mmssl.encoders.video_resnet import VideoResNet
from mmssl.types import InputError
from tests.moving_squares import Patches, film

# Looking labels up -------------------------------------------------------------------------------------------------------


def naive_look_up(grid, known, settings) -> Tensor:
    """Cell by cell."""
    height, width = grid.shape[:2]
    found = torch.zeros(known[0][1].shape)
    for y in range(height):
        for x in range(width):
            near = []
            for number, (keys, labels) in enumerate(known):
                anywhere = settings.radius is None or (settings.whole_first and number == 0)
                for v in range(height):
                    for u in range(width):
                        if anywhere or (v - y) ** 2 + (u - x) ** 2 <= settings.radius**2:
                            near.append((float(grid[y, x] @ keys[v, u]), labels[:, v, u]))
            near.sort(key=lambda pair: -pair[0])
            best = near[: settings.top_k]
            weights = torch.tensor([cosine for cosine, _ in best]).div(settings.temperature).softmax(0)
            found[:, y, x] = sum(w * label for w, (_, label) in zip(weights, best, strict=True))
    return found


@pytest.mark.parametrize(
    ("radius", "whole_first"), [(None, False), (0, False), (2.5, False), (5, False), (2.5, True), (None, True)]
)
@pytest.mark.parametrize("top_k", [1, 7])
def test_labels_match_the_loop_also_across_tiles(radius, whole_first, top_k):
    torch.manual_seed(0)
    settings = Propagation(top_k=top_k, radius=radius, temperature=0.3, whole_first=whole_first)
    grid, *keys = F.normalize(torch.randn(3, 19, 18, 5), dim=-1)
    known = [(key, torch.rand(3, 19, 18).softmax(0)) for key in keys]
    torch.testing.assert_close(look_up(grid, known, settings), naive_look_up(grid, known, settings), rtol=1e-4, atol=1e-5)


def test_memory_holds_the_first_frame_and_the_context_only():
    alive: list[weakref.ref] = []
    most = 0

    def features():
        nonlocal most
        for _ in range(40):
            frame = torch.randn(4, 4, 3)
            alive.append(weakref.ref(frame))
            most = max(most, sum(ref() is not None for ref in alive))
            yield frame

    first = torch.zeros(2, 4, 4)
    first[0] = 1
    frames = sum(1 for _ in propagate(features(), first, Propagation(context=3)))
    assert frames == 40
    assert most <= 3, "the features as given are let go"


def test_labels_come_from_the_context_and_from_the_first_frame():
    """One cell; its looks change for good after frame 2, to those of no known frame."""
    old, new = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    first = torch.tensor([0.2, 0.8]).view(2, 1, 1)
    grids = [look.view(1, 1, 2) for look in (old, old, new, new, old)]
    for context in (0, 1, 5):
        found = list(propagate(iter(grids), first, Propagation(context=context, top_k=1)))
        assert all(torch.equal(labels, first) for labels in found)
    with pytest.raises(ValueError, match="frame 1 has a grid"):
        list(propagate([torch.zeros(1, 1, 2), torch.zeros(2, 1, 2)], first))


@pytest.mark.parametrize("bad", [{"top_k": 0}, {"context": -1}, {"temperature": 0.0}, {"radius": -1.0}])
def test_bad_settings_are_named(bad):
    with pytest.raises(InputError, match="give top_k >= 1"):
        Propagation(**bad)


# Where cells lie ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("offset", [1.5, 0.0])
def test_a_cells_label_is_the_mean_around_its_centre(offset):
    rng = np.random.default_rng(0)
    mask = rng.integers(0, 3, (16, 24)).astype(np.uint8)
    labels = cell_shares(mask, np.arange(3, dtype=np.uint8), Cells((4, 6), offset, 4.0, (16, 24), (16, 24)))
    np.testing.assert_allclose(labels.sum(0), 1, rtol=1e-5)
    if offset == 1.5:
        wanted = [
            [[(mask[4 * i : 4 * i + 4, 4 * j : 4 * j + 4] == k).mean() for j in range(6)] for i in range(4)] for k in range(3)
        ]
        np.testing.assert_allclose(labels, wanted, atol=1e-5)
    else:  # centred on pixel (8, 4): between the boxes 6..9 and 7..10 in each direction
        means = [(mask[8 + a : 12 + a, 4 + b : 8 + b] == 1).mean() for a in (-2, -1) for b in (-2, -1)]
        np.testing.assert_allclose(labels[1, 2, 1], np.mean(means), atol=1e-5)


# Videos ------------------------------------------------------------------------------------------------------------------


def judged(found, masks):
    return summarize([score_sequence(np.stack(list(found)), masks)])


def test_a_film_is_tracked_where_the_mask_that_stays_is_lost():
    pictures, masks = film()
    encoder = Patches().eval()
    tracked = judged(track(iter(pictures), masks[0], encoder, settings=Propagation(radius=4, context=5)), masks)
    stayed = judged(stay(iter(pictures), masks[0]), masks)
    assert tracked.j_mean > 0.9
    assert tracked.objects == stayed.objects == 2
    assert stayed.j_mean < 0.3
    found = list(track(iter(pictures), masks[0], encoder))
    assert len(found) == len(masks) and found[0].shape == masks[0].shape
    assert np.array_equal(found[0], masks[0])


def test_flow_carries_the_mask_where_the_whole_picture_moves():
    wide = np.random.default_rng(0).integers(0, 256, (20, 44, 3)).astype(np.uint8)
    wide = cv2.resize(wide, None, fx=8, fy=8, interpolation=cv2.INTER_CUBIC)  # 160 x 352
    thing = np.zeros(wide.shape[:2], dtype=np.uint8)
    thing[40:120, 120:200], thing[130:150, 150:250] = 1, 2
    pictures = [np.ascontiguousarray(wide[:, 5 * t : 5 * t + 256]) for t in range(10)]
    masks = np.stack([thing[:, 5 * t : 5 * t + 256] for t in range(10)])
    flown, stayed = (judged(by(iter(pictures), masks[0]), masks) for by in (drift, stay))
    assert flown.j_mean > 0.95
    # By hand: frame t has moved by 5 t pixels, the things are 80 and 100 wide; the first and the last frame do not count.
    assert stayed.j_mean == pytest.approx(np.mean([(w - 5 * t) / (w + 5 * t) for w in (80, 100) for t in range(1, 9)]))
    with_nothing = list(drift(iter(pictures[:3]), np.zeros_like(masks[0])))
    assert not np.any(with_nothing)


def test_frames_without_features_lose_their_objects():
    """A control: features that are noise cannot track better than the mask that stays."""
    pictures, masks = film()
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 256, picture.shape).astype(np.uint8) for picture in pictures]
    settings = Propagation(radius=4, context=5)
    assert judged(track(iter(noise), masks[0], Patches().eval(), settings=settings), masks).j_mean < 0.35


def test_frames_are_resized_prepared_and_the_mask_comes_back_whole():
    pictures, masks = film(frames=3)
    encoder = Patches().eval()
    found = list(track(iter(pictures), masks[0], encoder, short_side=32, prepare=lambda x: x.float() / 510))
    assert found[2].shape == masks[0].shape
    assert encoder.seen[0].shape == (1, 1, 3, 32, 48)
    assert encoder.seen[0].dtype == torch.float32 and encoder.seen[0].max() <= 0.5


@pytest.mark.parametrize("size", ["tiny", "resnet18"])
def test_oblong_pictures_of_odd_size_go_through_real_encoders(size):
    torch.manual_seed(0)
    encoder = FrameResNet(size=size, output_stride=8, padding="reflect").eval()
    pictures, masks = film(frames=3, size=(62, 96))
    found = list(track((p[:61, :93] for p in pictures), masks[0, :61, :93], encoder))
    assert [f.shape for f in found] == [(61, 93)] * 3
    assert set(np.unique(found[2])) <= {0, 1, 2}


def test_what_cannot_be_tracked_is_named():
    pictures, masks = film(frames=2)
    with pytest.raises(InputError, match="encoder of single frames"):
        next(track(iter(pictures), masks[0], VideoResNet(size="tiny")))
    with pytest.raises(ValueError, match=r"the mask is \(60, 96\)"):
        next(track(iter(pictures), masks[0, :60], Patches()))
