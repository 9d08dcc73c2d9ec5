import pytest

from mmssl.data.holdout import split_holdout
from mmssl.types import InputError

IDS = [f"class{number % 4}/g{number // 10:02}_c{number % 10:02}" for number in range(100)]


def test_share_and_count():
    for holdout, expected in [(0.2, 20), (0.0, 0), (19, 19), (0.004, 0)]:
        train, held = split_holdout(IDS, holdout)
        assert len(held) == expected
        assert sorted(train + held) == list(range(100))


def test_the_choice_does_not_depend_on_the_order_of_files():
    _, held = split_holdout(IDS, 0.3, seed=5)
    back = IDS[::-1]
    _, other = split_holdout(back, 0.3, seed=5)
    assert {IDS[p] for p in held} == {back[p] for p in other}
    assert held != split_holdout(IDS, 0.3, seed=6)[1]


def test_groups_stay_together():
    train, held = split_holdout(IDS, 0.25, by=r"/(g\d+)")
    assert len(held) == 30  # whole groups of ten until at least 25
    assert not {IDS[p].split("_")[0][-3:] for p in train} & {IDS[p].split("_")[0][-3:] for p in held}


def test_nothing_left_to_train_on_is_an_error():
    with pytest.raises(InputError, match="leaves none"):
        split_holdout(IDS, 0.9, by="class")
    with pytest.raises(InputError, match="not a regular expression"):
        split_holdout(IDS, 0.5, by="(")
