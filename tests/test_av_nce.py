from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from mmssl.encoders.bank import EncoderBank
from mmssl.nn.health import sign_hits
from mmssl.types import InputError
from tests.tiny_av import CELL, PLAIN, SIZE, build, measure, scenes, tiny_encoders, train


def as_double(batch):
    return {
        key: value.double() / 255 if key == "video" else value.double() if key == "audio" else value
        for key, value in batch.items()
    }


def naive_loss(objective, encoders, batch, *, queue: bool) -> tuple[torch.Tensor, float]:
    """Both directions, pair by pair, from the definition; and the accuracy."""
    video, audio = encoders["video"](batch["video"]), encoders["audio"](batch["audio"])
    n, temperature = len(batch["source"]), objective.temperature()
    sounds = F.normalize(objective.audio_head.layers(audio.pooled), dim=1)
    pictures = F.normalize(objective.video_head.layers(video.pooled), dim=1)
    cells = F.normalize(objective.video_head.layers(video.grid), dim=-1)

    def score(i: int, sound: torch.Tensor) -> torch.Tensor:
        if objective.pooling == "mean":
            return pictures[i] @ sound
        frames = [torch.stack([cell @ sound for cell in frame.flatten(0, 1)]).max() for frame in cells[i]]
        return torch.stack(frames).max() if objective.time == "max" else torch.stack(frames).mean()

    total, right = torch.zeros((), dtype=torch.float64), 0.0
    for i in range(n):
        own = score(i, sounds[i])
        others = [j for j in range(n) if batch["source"][j] != batch["source"][i]]
        to_sound = [score(i, sounds[j]) for j in others]
        to_picture = [score(j, sounds[i]) for j in others]
        right += all(s < own for s in to_sound) / 2 + all(s < own for s in to_picture) / 2
        if queue:
            for k in range(objective.queue.size):
                if objective.queue.ids[k] >= 0 and objective.queue.ids[k] != batch["source"][i]:
                    to_sound.append(score(i, objective.queue.rows_audio[k]))
                    if objective.pooling == "mean":
                        to_picture.append(sounds[i] @ objective.queue.rows_video[k])
        for wrong in (to_sound, to_picture):
            total = total - torch.log(torch.exp(own / temperature) / sum(torch.exp(s / temperature) for s in [own, *wrong]))
    return total.squeeze() / (2 * n), right / n


@pytest.mark.parametrize(
    "arguments",
    [
        {"pooling": "mean"},
        {"pooling": "mean", "queue": 5, "hidden": 9},
        {"pooling": "max"},
        {"pooling": "max", "time": "mean", "learn_temperature": True},
        {"pooling": "max", "queue": 5},
    ],
)
def test_loss_accuracy_and_gradients_match_the_double_loop(arguments):
    encoders = tiny_encoders(double=True)
    objective = build("av_nce", encoders, dim=8, **arguments, **PLAIN).double()
    batch = as_double(scenes(6, 1, frames=2)) | {"source": torch.tensor([4, 5, 5, 6, 7, 8])}
    if objective.queue is not None:  # half filled, one entry of a source that is in the batch
        rows = {kind: F.normalize(torch.randn(3, 8, dtype=torch.float64), dim=1) for kind in objective.queue.kinds}
        objective.queue.push(torch.tensor([100, 7, 101]), **rows)
    # augmentation would turn double pictures to float32; the queue is used in training only.
    objective.frame_augment = objective.wave_augment = None
    loss = objective(batch, EncoderBank(encoders))
    value, accuracy = naive_loss(objective, encoders, batch, queue=objective.queue is not None)
    torch.testing.assert_close(loss.value, value)
    assert loss.metrics["accuracy"].item() == pytest.approx(accuracy)
    parameters = [*objective.parameters(), *encoders["video"].parameters(), *encoders["audio"].parameters()]
    for got, want in zip(torch.autograd.grad(loss.value, parameters), torch.autograd.grad(value, parameters), strict=True):
        torch.testing.assert_close(got, want)


def test_chance_counts_only_rows_that_are_rivals():
    encoders = tiny_encoders()
    objective = build("av_nce", encoders, **PLAIN)
    batch = scenes(4, 1) | {"source": torch.tensor([1, 1, 2, 3])}
    metrics = objective(batch, EncoderBank(encoders)).metrics
    assert metrics["accuracy/chance"].item() == pytest.approx((1 / 3 + 1 / 3 + 1 / 4 + 1 / 4) / 4)
    assert metrics["loss/uninformed"].item() == pytest.approx((2 * math.log(3) + 2 * math.log(4)) / 4)


def test_an_untrained_loss_is_near_its_chance():
    encoders = tiny_encoders()
    objective = build("av_nce", encoders, temperature=0.9, **PLAIN)
    loss = objective(scenes(32, 1), EncoderBank(encoders))
    assert loss.value.item() == pytest.approx(math.log(32), rel=0.05)


def test_the_queue_moves_after_the_step_only_and_serves_in_training_only():
    encoders = tiny_encoders()
    objective = build("av_nce", encoders, pooling="mean", queue=12, **PLAIN)
    first, second = scenes(8, 1), scenes(8, 2)
    alone = objective(second, EncoderBank(encoders)).value
    loss = objective(first, EncoderBank(encoders))
    assert (objective.queue.ids == -1).all()
    objective.after_step(loss.carry, 0)
    assert objective.queue.ids[:8].tolist() == first["source"].tolist()
    torch.testing.assert_close(objective.queue.rows("audio")[:8], loss.carry["audio"])
    assert objective(second, EncoderBank(encoders)).value > alone
    assert objective.eval()(second, EncoderBank(encoders)).value.item() == pytest.approx(alone.item(), rel=1e-5)


def test_rows_of_a_queued_source_are_no_negatives():
    encoders = tiny_encoders()
    objective = build("av_nce", encoders, pooling="mean", queue=8, **PLAIN)
    batch = scenes(8, 1)
    loss = objective(batch, EncoderBank(encoders))
    objective.after_step(loss.carry, 0)
    same = objective(batch | {"source": torch.full((8,), 1001)}, EncoderBank(encoders)).value
    objective.queue.ids.fill_(1001)
    assert objective(batch | {"source": torch.full((8,), 1001)}, EncoderBank(encoders)).value.item() == 0.0
    assert same.item() > 0.0  # with the true ids seven of eight entries were negatives


@pytest.mark.parametrize(("linked", "low", "high"), [(True, 0.9, 1.0), (False, 0.43, 0.57)])
@pytest.mark.parametrize("arguments", [{"pooling": "max"}, {"pooling": "mean", "queue": 64, "learn_temperature": True}])
def test_a_planted_link_is_learnt_and_a_cut_one_is_not(arguments, linked, low, high):
    """Rows of equal kind cannot be told apart, so own pictures are compared with pictures of other kinds: chance is 0.5."""
    encoders = tiny_encoders()
    objective = build("av_nce", encoders, **arguments, **PLAIN)
    train(objective, encoders, lambda rows, seed: scenes(rows, seed, linked=linked), steps=60, lr=1e-2)
    objective.eval()
    right = []
    for seed in range(900, 908):
        batch = scenes(64, seed, linked=linked)
        with torch.no_grad():
            scores = objective.correspondence(encoders["video"](batch["video"]), encoders["audio"](batch["audio"]))
        other = batch["kind"][:, None] != batch["kind"]
        right.append(sign_hits(scores.diagonal() - scores)[other])
    assert low <= torch.cat(right).mean().item() <= high


def test_the_map_points_at_the_cell_that_makes_the_sound():
    encoders = tiny_encoders()
    objective = build("av_nce", encoders, pooling="max", **PLAIN)
    train(objective, encoders, scenes, steps=60, lr=1e-2)
    batch = scenes(64, 901)
    with torch.no_grad():
        maps = objective.similarity_map(encoders["video"](batch["video"]), encoders["audio"](batch["audio"]))
    assert (maps.flatten(1).argmax(dim=1) == batch["cell"]).float().mean() > 0.8  # chance is 1 / 16
    assert (SIZE // CELL) ** 2 == 16


def test_resume_is_bit_exact_with_a_queue():
    def run(steps_first: int) -> torch.Tensor:
        encoders = tiny_encoders()
        objective = build("av_nce", encoders, queue=40, pooling="mean", **PLAIN)
        train(objective, encoders, scenes, steps=steps_first, rows=8)
        state = objective.state_dict()
        fresh = build("av_nce", encoders, queue=40, pooling="mean", **PLAIN)
        fresh.load_state_dict(state)
        return fresh(scenes(8, 50), EncoderBank(encoders)).value

    assert torch.equal(run(7), run(7))


def test_held_out_metrics_know_learning_from_collapse():
    encoders = tiny_encoders()
    objective = build("av_nce", encoders, **PLAIN)
    train(objective, encoders, scenes, steps=60, lr=1e-2)
    metrics = measure(objective, encoders, scenes)
    assert metrics["accuracy"] > 3 * metrics["accuracy/chance"]
    assert metrics["cosine/positive"] > metrics["cosine/negative"] + 0.2
    assert metrics["spread/audio"] > 0.3


def test_bad_temperature_is_named():
    with pytest.raises(InputError, match=r"temperature is 0\.0"):
        build("av_nce", tiny_encoders(), temperature=0.0)


def test_a_sharpness_without_cells_is_refused():
    with pytest.raises(InputError, match="but pooling mean compares no cells"):
        build("av_nce", tiny_encoders(), pooling="mean", sharpness=20.0, **PLAIN)
