from __future__ import annotations

from collections import deque

import pytest
import torch

from mmssl.nn.queue import RowQueue


def contents(queue: RowQueue) -> list[tuple[int, float]]:
    """Oldest first."""
    order = (torch.arange(queue.size) + queue.place) % queue.size
    return [(int(queue.ids[k]), float(queue.rows("audio")[k, 0])) for k in order if queue.ids[k] >= 0]


def test_first_in_first_out_with_wrap_equals_a_deque():
    queue, twin = RowQueue(5, audio=2), deque(maxlen=5)
    count = 0
    for rows in (2, 2, 3, 5, 1, 9, 4):
        source = torch.arange(count, count + rows)
        queue.push(source, audio=source[:, None].float().expand(rows, 2) * 10)
        twin.extend((int(s), float(s) * 10) for s in source)
        count += rows
        assert contents(queue) == list(twin)


def test_usable_entries_are_filled_and_of_another_source():
    queue = RowQueue(4, audio=1)
    assert not queue.usable(torch.tensor([0, 5])).any()
    queue.push(torch.tensor([5, 6]), audio=torch.ones(2, 1))
    assert queue.usable(torch.tensor([0, 5])).tolist() == [[True, True, False, False], [False, True, False, False]]


def test_state_survives_a_resume():
    one, other = RowQueue(4, audio=2, video=3), RowQueue(4, audio=2, video=3)
    one.push(torch.tensor([1, 2, 3]), audio=torch.rand(3, 2), video=torch.rand(3, 3))
    other.load_state_dict(one.state_dict())
    more = {"audio": torch.rand(3, 2), "video": torch.rand(3, 3)}
    for queue in (one, other):
        queue.push(torch.tensor([7, 8, 9]), **more)
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))
    assert set(one.state_dict()) == {"rows_audio", "rows_video", "ids", "place"}


def test_a_push_leaves_rows_alone_that_a_backward_pass_still_needs():
    queue = RowQueue(3, audio=2)
    queue.push(torch.tensor([1, 2, 3]), audio=torch.ones(3, 2))
    weight = torch.ones(2, requires_grad=True)
    value = (queue.rows("audio") @ weight).sum()
    queue.push(torch.tensor([4]), audio=torch.full((1, 2), 9.0))
    value.backward()
    assert weight.grad is not None
    assert weight.grad.tolist() == [3.0, 3.0]


def test_missing_kinds_are_named():
    with pytest.raises(ValueError, match=r"holds \['audio', 'video'\], got \['audio'\]"):
        RowQueue(3, audio=2, video=2).push(torch.tensor([1]), audio=torch.ones(1, 2))
