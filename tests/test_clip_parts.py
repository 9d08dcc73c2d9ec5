"""What is done around the encoder: taking rows apart, showing them in several ways, asking in every order."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

from mmssl.nn.arrangement import PairwiseOrder, all_orders, choice_hits, choice_loss, reversal_classes
from mmssl.nn.augment import FrameAugment
from mmssl.nn.clip_parts import BothWays, ClipSummary, Members, QuarterTurns, mean_parts
from mmssl.types import Features


@dataclass(frozen=True)
class Plus:
    by: int = 1

    def __call__(self, x: Tensor) -> Tensor:
        return x + self.by


def clips(rows: int = 2, frames: int = 6, size: int = 4) -> Tensor:
    return torch.randint(0, 200, (rows, frames, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def test_rows_are_taken_apart_after_they_were_augmented():
    x = clips()
    parts = Members(3, Plus())(x)
    assert parts.shape == (6, 2, 3, 4, 4)
    for row, member in itertools.product(range(2), range(3)):
        assert torch.equal(parts[3 * row + member], x[row, 2 * member : 2 * member + 2] + 1)
    assert hash(Members(3, FrameAugment())) == hash(Members(3, FrameAugment()))


def test_augmentation_draws_once_for_all_members_of_a_row():
    x = clips(1, 1, 8).expand(1, 4, -1, -1, -1)
    torch.manual_seed(0)
    parts = Members(4, FrameAugment(crop=0.3))(x)
    assert not torch.equal(parts[0], x[0, :1])
    assert all(torch.equal(parts[0], part) for part in parts)


def test_one_channel_stands_for_all_three():
    x = clips(40, 4)
    green = Members(2, None, "green")(x)
    assert green.shape == (80, 2, 3, 4, 4)
    whole = Members(2)(x)
    for channel in range(3):
        assert torch.equal(green[:, :, channel], whole[:, :, 1])
    torch.manual_seed(3)
    drawn = Members(2, None, "random")(x)
    which = torch.stack([(drawn[:, :, 0] == whole[:, :, k]).flatten(1).all(1) for k in range(3)], dim=1)
    assert which.any(1).all()
    assert (which.sum(0) > 10).all()  # a draw for each clip
    assert torch.equal(drawn[:, :, 0], drawn[:, :, 2])


def test_standard_clips_differ_in_contrast_and_brightness_no_more():
    x = clips(3, 4, 8)
    parts = Members(2, None, "all", True)(x)
    assert parts.dtype == torch.float32 and parts.min() >= 0 and parts.max() <= 1
    darker = Members(2, None, "all", True)((x.float() * 0.4 + 30.0) / 255)
    torch.testing.assert_close(parts, darker, atol=1e-3, rtol=0)
    assert (parts.mean((1, 2, 3, 4)) - 0.5).abs().max() < 0.02
    assert torch.isfinite(Members(2, None, "all", True)(torch.zeros_like(x))).all()


def test_both_ways_and_quarter_turns_move_pixels_and_compute_none():
    x = clips()
    there, back = BothWays(Plus())(x).chunk(2)
    assert torch.equal(there, x + 1) and torch.equal(back, (x + 1).flip(1))
    turned = QuarterTurns(Plus())(x).chunk(4)
    for turns, clip in enumerate(turned):
        for row, frame, colour in itertools.product(range(2), range(6), range(3)):
            assert np.array_equal(clip[row, frame, colour].numpy(), np.rot90((x + 1)[row, frame, colour].numpy(), turns))


def test_means_of_parts_take_shares_of_steps():
    grid = torch.arange(6.0).view(1, 6, 1, 1, 1).expand(1, 6, 4, 4, 2)
    assert mean_parts(grid, 3, 2)[0, :, 0, 0, 0].tolist() == pytest.approx([0.5, 2.5, 4.5])
    assert mean_parts(grid, 4, 1)[0, :, 0, 0, 0].tolist() == pytest.approx([1 / 3, 5 / 3, 10 / 3, 14 / 3])
    assert mean_parts(grid[:, :1], 1, 8).shape == (1, 1, 8, 8, 2)
    random = torch.rand(2, 3, 4, 6, 5)
    torch.testing.assert_close(mean_parts(random, 1, 1)[:, 0, 0, 0], random.mean((1, 2, 3)))
    torch.testing.assert_close(mean_parts(random, 3, 2)[:, 1, 1, 0], random[:, 1, 2:, :3].mean((1, 2)))


def test_one_part_is_the_pooled_vector():
    grid = torch.rand(2, 3, 4, 4, 5)
    summary = ClipSummary(5, 7)
    odd = Features(torch.rand(2, 5), grid)  # an encoder may pool otherwise than by the mean
    torch.testing.assert_close(summary(odd), summary.line(odd.pooled).relu())
    assert ClipSummary(5, 7, moments=2, cells=2)(odd).shape == (2, 7)


def test_orders_and_their_reverses():
    orders = all_orders(4)
    assert len({tuple(row) for row in orders.tolist()}) == 24 and orders[0].tolist() == [0, 1, 2, 3]
    classes = reversal_classes(orders)
    assert torch.bincount(classes).tolist() == [2] * 12
    place = {tuple(row): k for k, row in enumerate(orders.tolist())}
    for row, k in place.items():
        assert classes[k] == classes[place[row[::-1]]]


def test_asking_in_every_order_is_permuting_the_parts():
    torch.manual_seed(0)
    orders = all_orders(3)
    head = PairwiseOrder(5, 6, hidden=4, orders=orders)
    parts = torch.randn(2, 3, 5)
    logits = head(parts)
    assert logits.shape == (2, 6, 6)
    for place, row in enumerate(orders.tolist()):
        torch.testing.assert_close(logits[:, place], head(parts[:, row])[:, 0])


def test_choices_count_ties_as_lots():
    answers = torch.arange(3)
    assert choice_hits(torch.zeros(2, 3, 3), answers).tolist() == [[pytest.approx(1 / 3)] * 3] * 2
    assert choice_hits(torch.eye(3)[None], answers).tolist() == [[1, 1, 1]]
    logits = torch.randn(2, 3, 3)
    wanted = -sum(torch.log_softmax(logits[n, a], 0)[a] for n in range(2) for a in range(3)) / 6
    torch.testing.assert_close(choice_loss(logits, answers), wanted)
