from __future__ import annotations

import math

import pytest
import torch

from mmssl.cuts.forecast import PredictionViews
from mmssl.encoders.bank import EncoderBank
from mmssl.nn.augment import FrameAugment
from mmssl.nn.pixels import gradient_difference, pixel_error, psnr
from mmssl.types import InputError
from tests.tiny_av import SIZE, TinyFrames, build, measure, train

PAST, FUTURE, SIDE = 3, 2, 5
STILL = FrameAugment(brightness=0, contrast=0, saturation=0, hue=0, flip=0)


def movers(rows: int, seed: int, form: str = "linked") -> dict[str, torch.Tensor]:
    """A bright square goes right or left, a pixel a picture, before grey.

    Forms: "linked"; "frozen" (it stays); "shuffled" (all pictures in any order); "stranger" (the future is another clip's).
    """
    g = torch.Generator().manual_seed(seed)
    count = PAST + FUTURE
    way = torch.randint(0, 2, (rows,), generator=g) * 2 - 1
    if form == "frozen":
        way = way * 0
    start, top = (torch.randint(4, SIZE - SIDE - 4, (rows,), generator=g) for _ in range(2))
    video = torch.full((rows, count, 3, SIZE, SIZE), 90, dtype=torch.uint8)
    for i in range(rows):
        order = torch.randperm(count, generator=g) if form == "shuffled" else torch.arange(count)
        for t in range(count):
            left = int(start[i] + way[i] * (order[t] - count // 2))
            video[i, t, :, top[i] : top[i] + SIDE, left : left + SIDE] = 220
    if form == "stranger":
        video = torch.cat([video[:, :PAST], video[:, PAST:].roll(1, 0)], 1)
    return {"video": video, "source": torch.arange(rows) + 1000 * seed}


def make(**arguments):
    torch.manual_seed(0)
    encoders = {"video": TinyFrames()}
    defaults = {
        "views": PredictionViews(past=PAST, future=FUTURE),
        "hidden": 32,
        "patch": 4,
        "radius": 1,
        "gradient": 0.0,
        "frame_augment": STILL,
    }
    return build("video_prediction", encoders, **{**defaults, **arguments}), encoders


def stir(objective) -> None:
    """Weights of the last layer that are not zero, as after some training."""
    torch.nn.init.normal_(objective.decoder.last.weight, std=0.05)


def naive_loss(objective, encoders, video) -> torch.Tensor:
    """Pixel by pixel, from the definitions; the convolutions themselves are torch's."""
    r, n = objective.decoder.radius, len(video)
    clip = video[:, :PAST]
    state = None
    for t in range(PAST):
        grid = encoders["video"](clip[:, t : t + 1]).grid[:, 0]
        state = objective.recurrent(objective.feature(grid).permute(0, 3, 1, 2), state)
    terms, picture = [], video[:, PAST - 1]
    for t in range(FUTURE):
        state = objective.recurrent(torch.zeros_like(state[0]), state)
        drawn = objective.decoder.last(objective.decoder.layers(state[0]))
        rows = []
        for i in range(n):
            pixels = []  # all three colours of one at a time
            for y in range(SIZE):
                for x in range(SIZE):
                    value = picture[i, :, y, x] + drawn[i, (2 * r + 1) ** 2 :, y, x]
                    for dy in range(-r, r + 1):
                        for dx in range(-r, r + 1):
                            weight = drawn[i, (dy + r) * (2 * r + 1) + dx + r, y, x]
                            yy, xx = min(max(y + dy, 0), SIZE - 1), min(max(x + dx, 0), SIZE - 1)
                            value = value + weight * picture[i, :, yy, xx]
                    pixels.append(value)
            rows.append(torch.stack(pixels, 1).view(3, SIZE, SIZE))
        picture, true = torch.stack(rows), video[:, PAST + t]
        pixel = ((picture - true).abs() ** objective.power).mean()
        down = ((true[:, :, 1:] - true[:, :, :-1]).abs() - (picture[:, :, 1:] - picture[:, :, :-1]).abs()).abs().mean()
        right = ((true[..., 1:] - true[..., :-1]).abs() - (picture[..., 1:] - picture[..., :-1]).abs()).abs().mean()
        terms.append(pixel + objective.gradient * (down + right))
    return sum(terms) / FUTURE


@pytest.mark.parametrize(("power", "gradient"), [(1, 1.0), (2, 0.3), (1, 0.0)])
def test_loss_and_gradients_match_the_loop(power, gradient):
    objective, encoders = make(power=power, gradient=gradient, hidden=8)
    stir(objective)
    objective, encoders = objective.double().eval(), {"video": encoders["video"].double()}
    video = torch.rand(2, PAST + FUTURE, 3, SIZE, SIZE, dtype=torch.float64)
    loss = objective({"video": video, "source": torch.arange(2)}, EncoderBank(encoders))
    value = naive_loss(objective, encoders, video)
    torch.testing.assert_close(loss.value, value)
    parameters = [*objective.parameters(), *encoders["video"].parameters()]
    wanted = torch.autograd.grad(value, parameters)
    for got, want in zip(torch.autograd.grad(loss.value, parameters), wanted, strict=True):
        torch.testing.assert_close(got, want)


def test_at_first_the_last_picture_is_copied():
    objective, encoders = make()
    batch = movers(4, 0)
    metrics = objective.eval()(batch, EncoderBank(encoders)).metrics
    assert metrics["error_ratio"] == pytest.approx(1.0)
    assert metrics["psnr"] == metrics["psnr/copy"]
    loss = objective(batch, EncoderBank(encoders))
    assert loss.value.item() == pytest.approx(metrics["loss/uninformed"].item())
    assert objective.judge(batch, EncoderBank(encoders))["accuracy"].values.tolist() == [0.5] * 4


@pytest.fixture(scope="module")
def learnt():
    objective, encoders = make()
    train(objective, encoders, movers, steps=125, rows=16, lr=5e-3)
    return objective, encoders


def test_moving_things_are_predicted_better_than_by_copying(learnt):
    objective, encoders = learnt
    metrics = measure(objective, encoders, movers, rows=32, batches=2)
    assert metrics["error_ratio"] < 0.5
    assert metrics["psnr"] > metrics["psnr/copy"] + 4.0
    judged = objective.eval().judge(movers(32, 77), EncoderBank(encoders))
    assert judged["accuracy"].values.mean() > 0.95 and judged["accuracy"].chance == 0.5
    assert judged["error_ratio"].values.mean() < 0.5 and judged["error_ratio"].chance == 1.0
    assert (judged["psnr"].values > judged["psnr_copy"].values).float().mean() > 0.95


@pytest.mark.parametrize("form", ["frozen", "shuffled", "stranger"])
def test_without_motion_or_order_nothing_is_gained_over_copying(form):
    objective, encoders = make()
    cut = lambda rows, seed: movers(rows, seed, form)  # noqa: E731
    train(objective, encoders, cut, steps=100, rows=16, lr=5e-3)
    judged = objective.eval().judge(cut(64, 77), EncoderBank(encoders))
    if form == "frozen":
        assert judged["accuracy"].values.max() <= 0.5  # copying makes no error
    else:  # blurring where the square may be gains something in squares, nothing here
        assert judged["error_ratio"].values.mean() > 0.8


def test_no_future_picture_reaches_the_prediction():
    objective, encoders = make()
    stir(objective)
    objective.eval()
    batch, seen = movers(3, 1), []
    for seed in (1, 2):
        video = batch["video"].clone()
        video[:, PAST:] = torch.randint(
            0, 256, video[:, PAST:].shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed)
        )
        seen.append(objective._compare({"video": video}, EncoderBank(encoders))[0])
    assert torch.equal(seen[0], seen[1])


def test_motion_must_come_through_the_encoder():
    """All but the last picture reach the decoder by the encoder only: without its features, the past makes no difference."""
    objective, encoders = make()
    stir(objective)
    objective.eval()
    video = movers(3, 1)["video"]
    other = video.clone()
    other[:, : PAST - 1] = 255 - other[:, : PAST - 1]
    last = video[:, PAST - 1].float() / 255
    grids = [encoders["video"](x[:, :PAST]).grid for x in (video, other)]
    assert not torch.equal(objective.predict(grids[0], last, 1), objective.predict(grids[1], last, 1))
    blind = [torch.zeros_like(grid) for grid in grids]
    assert torch.equal(objective.predict(blind[0], last, 1), objective.predict(blind[1], last, 1))


def test_past_and_future_are_augmented_by_one_draw():
    objective, encoders = make(frame_augment=FrameAugment(crop=0.5, grey=0.5))
    objective.train()
    torch.manual_seed(3)
    metrics = objective(movers(8, 0, "frozen"), EncoderBank(encoders)).metrics
    assert metrics["loss/uninformed"] == 0.0  # what stood still before still stands still


def test_a_grid_of_another_size_is_brought_to_the_patches():
    objective, encoders = make(patch=8, radius=0)
    assert torch.isfinite(objective(movers(2, 0), EncoderBank(encoders)).value)
    grid, last = torch.randn(2, PAST, 5, 3, 32), torch.rand(2, 3, SIZE, SIZE)
    assert objective.predict(grid, last, FUTURE).shape == (2, FUTURE, 3, SIZE, SIZE)


def test_errors_of_pictures_have_their_values():
    x, y = torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4, 4)
    y[0] += 0.1
    y[1, :, :, 2:] = 1.0
    assert pixel_error(x, y, power=1).tolist() == pytest.approx([0.1, 0.5])
    assert pixel_error(x, y, power=2).tolist() == pytest.approx([0.01, 0.5])
    assert gradient_difference(x, y).tolist() == pytest.approx([0.0, 1 / 3])  # one of three horizontal steps
    assert gradient_difference(y.flip(-1), y).tolist() == [0.0, 0.0]  # by size, not by sign
    assert psnr(x, y).tolist() == pytest.approx([20.0, 10 * math.log10(2)], rel=1e-5)
    assert psnr(x, x).tolist() == pytest.approx([58.92, 58.92], abs=0.01)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"patch": 3}, "patch is 3 and"),
        ({"patch": 32}, r"patch is 32 and views\.size is 16"),
        ({"radius": -1}, "radius -1"),
        ({"gradient": -0.5}, r"gradient -0\.5"),
        ({"kernel": 2}, "kernel is 2"),
    ],
)
def test_bad_values_are_named(arguments, says):
    with pytest.raises(InputError, match=says):
        make(**arguments)
