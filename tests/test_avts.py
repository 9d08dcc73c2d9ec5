from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from mmssl.cuts.pairs import SyncViews
from mmssl.encoders.bank import EncoderBank
from mmssl.nn.augment import WaveAugment
from mmssl.objectives.avts import Curriculum, over_time
from mmssl.types import Features, InputError
from tests.tiny_av import PLAIN, build, envelopes, measure, tiny_encoders, train

FRAMES = 8
SYNC = {"views": SyncViews(frames=FRAMES, fps=8.0), "bins": FRAMES}


def make(linked: bool):
    return lambda rows, seed: envelopes(rows, seed, linked=linked, frames=FRAMES)


def naive_loss(objective, encoders, batch, share: list[float]) -> torch.Tensor:
    """Row by row, from the definitions."""

    def vector(role: str, key: str) -> torch.Tensor:
        features = encoders[role](batch[key])
        head = (objective.video_head if role == "video" else objective.audio_head).layers
        if objective.bins == 1:
            return F.normalize(head(features.pooled), dim=1)
        if objective.centre:
            rows = []
            for row in head(features.grid.flatten(2, -2).mean(dim=2)):
                changes = row - sum(row) / len(row)
                rows.append((changes / changes.square().sum().sqrt()).flatten())
            return torch.stack(rows)
        return F.normalize(head(features.grid.flatten(2, -2).mean(dim=2)), dim=-1).flatten(1) / objective.bins**0.5

    picture, true, shifted = vector("video", "video"), vector("audio", "audio"), vector("audio", "audio_shifted")
    source, losses = batch["source"], []
    for i in range(len(source)):
        others = [j for j in range(len(source)) if source[j] != source[i]]
        own, wrong, hard = picture[i] @ true[i], torch.stack([picture[i] @ true[j] for j in others]), picture[i] @ shifted[i]
        if objective.form == "nce":
            t = objective.temperature()
            total = (1 - share[i]) * (wrong / t).exp().sum() + share[i] * len(others) * (hard / t).exp()
            losses.append(-torch.log((own / t).exp() / ((own / t).exp() + total)))
            continue
        own, wrong, hard = ((2 - 2 * c + 1e-6).sqrt() for c in (own, wrong, hard))
        if objective.form == "margin":
            terms = own**2, ((0.99 - wrong).clamp(min=0) ** 2).mean(), (0.99 - hard).clamp(min=0) ** 2
        else:
            scale, threshold = objective.calibration.log_scale.exp(), objective.calibration.threshold
            p_own, p_wrong, p_hard = (torch.sigmoid(scale * (-d - threshold)) for d in (own, wrong, hard))
            terms = -p_own.log(), -(1 - p_wrong).log().mean(), -(1 - p_hard).log()
        losses.append((terms[0] + (1 - share[i]) * terms[1] + share[i] * terms[2]).squeeze() / 2)
    return torch.stack(losses).mean()


@pytest.mark.parametrize("form", ["margin", "binary", "nce"])
@pytest.mark.parametrize(("bins", "centre"), [(1, False), (FRAMES, False), (FRAMES, True)])
@pytest.mark.parametrize("hard", [0.0, 0.25, 1.0])
def test_loss_and_gradients_match_the_loop(form, bins, centre, hard):
    encoders = tiny_encoders(double=True, parts=FRAMES)
    # Overlapping rows do not count yet: their whole weight stays on the easy negatives.
    objective = build(
        "avts", encoders, form=form, bins=bins, centre=centre, dim=6, curriculum=Curriculum(hard=hard, overlapping_after=9)
    )
    objective = objective.double().eval()
    batch = envelopes(6, 1, frames=FRAMES)
    batch = {key: value.double() if value.is_floating_point() else value for key, value in batch.items()}
    batch |= {"video": batch["video"].double() / 255, "source": torch.tensor([1, 2, 2, 3, 4, 5])}
    batch["overlap"] = torch.tensor([0, 0, 1, 0, 1, 0])
    loss = objective(batch, EncoderBank(encoders))
    value = naive_loss(objective, encoders, batch, [hard, hard, 0, hard, 0, hard])
    torch.testing.assert_close(loss.value, value)
    parameters = [*objective.parameters(), *encoders["video"].parameters(), *encoders["audio"].parameters()]
    wanted = torch.autograd.grad(value, parameters)
    for got, want in zip(torch.autograd.grad(loss.value, parameters), wanted, strict=True):
        torch.testing.assert_close(got, want)


def test_centred_embeddings_ignore_what_does_not_change():
    encoders = tiny_encoders(parts=FRAMES)
    objective = build("avts", encoders, centre=True, bins=FRAMES, hidden=0)
    grid = torch.randn(3, FRAMES, 2, 2, encoders["video"].dim)
    constant = torch.randn(3, 1, 1, 1, encoders["video"].dim)
    one, other = (objective.embed("video", Features(g.mean((1, 2, 3)), g)) for g in (grid, grid + constant))
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(one.norm(dim=1), torch.ones(3))
    sound = torch.randn(3, FRAMES, 1, encoders["audio"].dim)
    found = objective.similarity_map(Features(grid.mean((1, 2, 3)), grid), Features(sound.mean((1, 2)), sound))
    assert found.shape == (3, FRAMES, 2, 2)
    assert found.abs().max() <= 1 + 1e-5


def test_curriculum_is_easy_first_then_rises_and_admits_overlap_last():
    curriculum = Curriculum(easy_steps=10, ramp=4, hard=0.5, overlapping_after=20)
    overlap = torch.tensor([False, True])

    def at(step: int) -> list[float]:
        return curriculum.share(torch.tensor([step]), overlap).tolist()

    assert at(0) == [0.0, 0.0]
    assert at(9) == [0.0, 0.0]
    assert at(10) == pytest.approx([0.1, 0.0])
    assert at(12) == pytest.approx([0.3, 0.0])
    assert at(19) == pytest.approx([0.5, 0.0])
    assert at(20) == pytest.approx([0.5, 0.5])


def test_the_clock_moves_after_the_step_only_and_is_saved():
    encoders = tiny_encoders()
    objective = build("avts", encoders, curriculum=Curriculum(easy_steps=2, hard=0.5), **PLAIN)
    seen = []
    for step in range(4):
        loss = objective(envelopes(6, step), EncoderBank(encoders))
        seen.append(loss.metrics["share/hard"].item())
        objective.after_step(loss.carry, step)
    assert seen == [0.0, 0.0, 0.5, 0.5]
    fresh = build("avts", encoders, curriculum=Curriculum(easy_steps=2, hard=0.5), **PLAIN)
    fresh.load_state_dict(objective.state_dict())
    assert fresh.steps.item() == 4


def test_over_time_takes_equal_parts_and_shares_of_steps():
    grid = torch.arange(6.0).view(1, 6, 1, 1, 1)
    assert over_time(grid, 3).flatten().tolist() == pytest.approx([0.5, 2.5, 4.5])
    assert over_time(grid, 6).flatten().tolist() == pytest.approx([0, 1, 2, 3, 4, 5])
    assert over_time(grid, 4).flatten().tolist() == pytest.approx([1 / 3, 5 / 3, 10 / 3, 14 / 3])
    assert over_time(grid[:, :2], 4).flatten().tolist() == pytest.approx([0, 0, 1, 1])
    assert over_time(torch.rand(2, 5, 3, 4, 7), 1).shape == (2, 1, 7)


def test_one_pass_encodes_true_and_shifted_sounds():
    encoders = tiny_encoders()
    objective = build("avts", encoders, **PLAIN)
    objective(envelopes(4, 0), EncoderBank(encoders))
    assert encoders["audio"].calls == 1


@pytest.mark.parametrize(("linked", "low", "high"), [(True, 0.85, 1.0), (False, 0.4, 0.6)])
@pytest.mark.parametrize("form", ["margin", "binary", "nce"])
def test_a_planted_link_is_learnt_and_a_cut_one_is_not(form, linked, low, high):
    encoders = tiny_encoders(parts=FRAMES)
    objective = build("avts", encoders, form=form, curriculum=Curriculum(easy_steps=20, hard=0.5), **SYNC, **PLAIN)
    train(objective, encoders, make(linked), steps=80, lr=1e-2)
    metrics = measure(objective, encoders, make(linked))
    assert low <= metrics["accuracy"] <= high
    assert low <= metrics["accuracy_easy"] <= high
    assert metrics["accuracy/chance"] == metrics["accuracy_easy/chance"] == 0.5


def test_the_map_at_a_time_listens_at_that_time():
    encoders = tiny_encoders(parts=FRAMES)
    objective = build("avts", encoders, **SYNC, **PLAIN).eval()
    batch = envelopes(3, 0, frames=FRAMES)
    with torch.no_grad():
        video, audio = encoders["video"](batch["video"]), encoders["audio"](batch["audio"])
        maps = objective.similarity_map(video, audio)
        louder = audio._replace(grid=audio.grid.clone())
        louder.grid[:, 5] = torch.rand_like(louder.grid[:, 5])
        changed = (objective.similarity_map(video, louder) - maps).abs().flatten(2).amax(dim=2)
    assert (changed[:, 5] > 0).all()
    assert (changed[:, [0, 1, 2, 3, 4, 6, 7]] == 0).all()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"bins": 0}, "bins 0"),
        ({"bins": 2, "centre": True}, "at least 3 bins"),
        ({"margin": 2.5}, "margin 2.5"),
        ({"wave_augment": WaveAugment(roll=100)}, "roll is 100 samples"),
    ],
)
def test_bad_values_are_named(arguments, says):
    with pytest.raises(InputError, match=says):
        build("avts", tiny_encoders(), **arguments)


def test_bad_curricula_are_named():
    with pytest.raises(InputError, match=r"hard is 1\.5"):
        Curriculum(hard=1.5)
    with pytest.raises(InputError, match="easy_steps is -1"):
        Curriculum(easy_steps=-1)
