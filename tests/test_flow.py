"""Optical flow on films whose motion is known: translations, with rotation metadata, boxes, oblong sizes, and the ends of a film."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch
from av.video.stream import VideoStream

from mmssl.data import flow as flows
from mmssl.data.decode import answer
from mmssl.data.flow import enlargement, estimate, fetch_raft, pictures_for, weights_file
from mmssl.types import Box, Flow, Frames, InputError, MediaError, Source
from mmssl.viewing import flow_pictures

FPS = 10


def ground(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Smooth coloured noise, uint8 (H, W, 3): something to hold on to everywhere."""
    noise = np.random.default_rng(seed).standard_normal((height, width, 3)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), 2.0)
    return np.clip(128 + 45 * smooth / smooth.std(), 0, 255).astype(np.uint8)


def make_pan(path: Path, *, size=(96, 128), speed=(3, 1), frames: int = 12, turn: int = 0, still_from: int = 10**6) -> Source:
    """A film (H, W) whose whole content moves by `speed` (right, down) pixels a frame, up to frame `still_from`."""
    height, width = size
    margin = 12 * max(abs(speed[0]), abs(speed[1])) + 8
    whole = ground(height + 2 * margin, width + 2 * margin)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=FPS, options={"crf": "8", "preset": "ultrafast"})
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv444p"
        if turn:
            stream.set_display_rotation(turn)
        for number in range(frames):
            moved = min(number, still_from)
            top, left = margin - moved * speed[1], margin - moved * speed[0]
            frame = av.VideoFrame.from_ndarray(
                np.ascontiguousarray(whole[top : top + height, left : left + width]), format="rgb24"
            )
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return Source(path.stem, path)


@pytest.fixture(scope="module")
def pan(tmp_path_factory) -> Source:
    return make_pan(tmp_path_factory.mktemp("pan") / "pan.mp4")


def inner(field: torch.Tensor) -> torch.Tensor:
    """Median flow of the inner part (what enters at the border has no origin): (T, 2)."""
    height, width = field.shape[2:]
    part = field[:, :, height // 6 : -height // 6, width // 6 : -width // 6].float()
    return part.flatten(2).median(dim=2).values


def test_a_translation_is_found_in_pixels_of_the_output_for_one_step(pan):
    whole = Flow((0.0, 0.3), 1 / FPS, (96, 128))
    twice = Flow((0.0, 0.3), 2 / FPS, (96, 128))
    half = Flow((0.3,), 1 / FPS, (48, 64))
    wide = Flow((0.3,), 1 / FPS, (96, 64), Box(0.0, 0.0, 1.0, 1.0))
    found = answer(pan, [whole, twice, half, wide])
    assert found[whole].shape == (2, 2, 96, 128)
    assert found[whole].dtype == torch.float16 and found[whole].is_contiguous()
    torch.testing.assert_close(inner(found[whole]), torch.tensor([[3.0, 1.0]] * 2), atol=0.2, rtol=0)
    torch.testing.assert_close(inner(found[twice]), torch.tensor([[6.0, 2.0]] * 2), atol=0.3, rtol=0)
    torch.testing.assert_close(inner(found[half]), torch.tensor([[1.5, 0.5]]), atol=0.15, rtol=0)
    torch.testing.assert_close(inner(found[wide]), torch.tensor([[1.5, 1.0]]), atol=0.2, rtol=0)


def test_a_box_makes_the_motion_larger(pan):
    request = Flow((0.2,), 1 / FPS, (96, 128), Box(0.25, 0.25, 0.5, 0.5))
    torch.testing.assert_close(inner(answer(pan, [request])[request]), torch.tensor([[6.0, 2.0]]), atol=0.3, rtol=0)
    square = Flow((0.2,), 1 / FPS, 96)  # None: the largest centred square
    torch.testing.assert_close(inner(answer(pan, [square])[square]), torch.tensor([[3.0, 1.0]]), atol=0.2, rtol=0)


# What moves right by 3 and down by 1 as coded: turned counter-clockwise by 90 degrees, right becomes up and down becomes right.
@pytest.mark.parametrize(
    ("turn", "size", "wanted"), [(90, (128, 96), (1.0, -3.0)), (180, (96, 128), (-3.0, -1.0)), (-90, (128, 96), (-1.0, 3.0))]
)
def test_rotation_metadata_turns_the_motion_too(tmp_path, turn, size, wanted):
    film = make_pan(tmp_path / "turned.mp4", turn=turn)
    request = Flow((0.3,), 1 / FPS, size)
    torch.testing.assert_close(inner(answer(film, [request])[request]), torch.tensor([wanted]), atol=0.2, rtol=0)


def test_small_outputs_are_estimated_on_larger_pictures():
    assert [enlargement(side, side) for side in (8, 16, 32, 64, 100, 128, 255, 256)] == [8, 8, 4, 2, 2, 2, 2, 1]
    assert enlargement(64, 200) == 2
    needed = pictures_for(Flow((0.0, 0.1, 0.2), 0.1, (32, 64)))
    assert needed.request.size == (128, 256)
    assert needed.request.times == pytest.approx((0.0, 0.1, 0.2, 0.3))  # neighbours share a picture
    assert needed.first == (0, 1, 2)
    assert needed.second == (1, 2, 3)
    assert pictures_for(Flow((0.5, 0.0), 0.2, 8)).first == (2, 0)


def test_tiny_outputs_work(pan):
    request = Flow((0.1,), 1 / FPS, 4)
    assert answer(pan, [request])[request].shape == (1, 2, 4, 4)
    one, other = ground(6, 9), ground(6, 9, seed=1)
    assert estimate([(one, other)])[0].shape == (6, 9, 2)


def test_flow_and_frames_come_from_one_opening(pan, monkeypatch):
    import mmssl.data.decode.pyav as backend

    opened = []
    real = backend.open_media
    monkeypatch.setattr(backend, "open_media", lambda path: opened.append(path) or real(path))
    frames, flow = Frames((0.1,), 64), Flow((0.1,), 0.1, 64)
    found = answer(pan, [flow, frames])
    assert list(found) == [flow, frames]  # and nothing that was not asked for
    assert len(opened) == 1


def test_at_the_end_of_the_film(pan):
    # Twelve frames: the last is shown from 1.1 to 1.2 s.
    last = Flow((1.0,), 0.1, (96, 128))
    assert inner(answer(pan, [last])[last])[0, 0] == pytest.approx(3.0, abs=0.2)
    held = Flow((1.15,), 0.1, (96, 128))  # within a tenth of a second past its end, the last picture still counts as shown
    assert not answer(pan, [held])[held].any()
    beyond = Flow((1.1,), 0.3, (96, 128))
    with pytest.raises(MediaError, match=r"picture ends at 1\.2"):
        answer(pan, [beyond])


def test_a_still_film_has_no_flow(tmp_path):
    film = make_pan(tmp_path / "still.mp4", still_from=0)
    request = Flow((0.3, 0.5), 1 / FPS, (96, 128))
    assert answer(film, [request])[request].float().abs().max() < 0.05


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        (Flow((0.0,), 0.0, 64), "step must be finite and above 0"),
        (Flow((0.0,), float("nan"), 64), "step must be finite"),
        (Flow((), 0.1, 64), "at least one time"),
        (Flow((0.0,), 0.1, 0), "size must be"),
        (Flow((0.0,), 0.1, 64, Box(0.5, 0.5, 0.6, 0.6)), "box must lie"),
        (Flow((0.0,), 0.1, 64, method="farneback"), "no optical flow 'farneback'; known: dis, raft, raft_small"),
    ],
)
def test_bad_requests_are_named(pan, request_, says):
    with pytest.raises(InputError, match=says):
        answer(pan, [request_])


def test_dis_does_not_depend_on_the_number_of_threads():
    whole = ground(200, 260)
    pair = whole[:192, :256], np.ascontiguousarray(whole[3:195, 2:258])
    threads = cv2.getNumThreads()
    try:
        cv2.setNumThreads(4)
        four = estimate([pair])[0]
        assert cv2.getNumThreads() == 4
    finally:
        cv2.setNumThreads(threads)
    assert np.array_equal(four, estimate([pair])[0])


def test_raft_needs_weights_and_never_fetches_them(pan, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda *a, **k: pytest.fail("went online"))
    for method in ("raft", "raft_small"):
        with pytest.raises(InputError, match=f"weights of {method} are not at hand") as caught:
            answer(pan, [Flow((0.0,), 0.1, 64, method=method)])
        assert str(weights_file(method)) in str(caught.value)
    with pytest.raises(InputError, match="has no weights to fetch"):
        fetch_raft("dis")


def test_raft_runs_torchvisions_network_on_pictures_of_the_sizes_that_it_takes(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    torch.manual_seed(0)
    network = flows.raft_small(weights=None).eval()
    place = weights_file("raft_small")
    place.parent.mkdir(parents=True)
    torch.save(network.state_dict(), place)
    one, other = ground(128, 136), ground(128, 136, seed=1)
    planes = [torch.from_numpy(p).permute(2, 0, 1)[None] / 127.5 - 1 for p in (one, other)]
    with torch.no_grad():
        wanted = network(*planes)[-1][0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(estimate([(one, other)], "raft_small")[0], wanted, atol=1e-3 * np.abs(wanted).max())
    found = estimate([(ground(60, 100), ground(60, 100, seed=1)), (one, one)], "raft_small")
    assert found[0].shape == (60, 100, 2) and np.isfinite(found[0]).all()
    assert not found[1].any()
    place.write_bytes(b"no weights")
    with pytest.raises(InputError, match="does not hold the weights of raft_small"):
        estimate([(one, other)], "raft_small")


def test_flow_is_shown_as_a_colour_wheel():
    flow = torch.zeros(1, 2, 4, 4, dtype=torch.float16)
    flow[0, 0, :, 2:] = 5.0
    flow[0, 0, 0, 2:] = -5.0
    picture = flow_pictures(flow)[0]
    assert picture.dtype == torch.uint8
    assert (picture[:, 1, 0] == 255).all()  # white: still
    assert (picture[:, 1, 3] != picture[:, 0, 3]).any()  # right and left differ
