"""What is shown where and in which colour: rotation, pixel aspect ratio, boxes, ranges and depths."""

from __future__ import annotations

import gc
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from mmssl.data.container import display_size, open_media, picture_stream
from mmssl.data.decode import answer
from mmssl.data.decode.picture import centred_box, cut
from mmssl.data.playback import play_frames
from mmssl.types import Box, Frames, InputError, Source
from tests.media_makers import HEIGHT, WIDTH, make_film, number_in, painted

X264 = {"preset": "ultrafast", "g": "12"}
WHOLE = Box(0, 0, 1, 1)


def shown(path: Path) -> tuple[int, int]:
    with open_media(path) as container:
        stream = picture_stream(container)
        assert stream is not None
        return display_size(stream)


@pytest.mark.parametrize("turn", [0, 90, 180, 270])
def test_rotation_metadata_turns_the_picture(turn: int, tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    make_film(path, frames=30, options=X264, turn=turn)
    size = (WIDTH, HEIGHT) if turn % 180 else (HEIGHT, WIDTH)
    assert shown(path) == size[::-1]
    request = Frames((0.4,), size)
    pixels = answer(Source("a", path), [request])[request][0].permute(1, 2, 0).numpy()
    # the display matrix turns the coded picture counter-clockwise by `turn`
    assert np.abs(pixels.astype(int) - np.rot90(painted(10), turn // 90).astype(int)).mean() < 12
    assert next(iter(play_frames(path, fps=5)))[1].shape == (*size, 3)


@pytest.mark.parametrize(("turns", "mirrored"), [(t, m) for t in range(4) for m in (False, True)])
def test_a_box_is_cut_from_the_picture_as_shown(turns: int, mirrored: bool) -> None:
    coded = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    picture = np.rot90(coded[:, ::-1] if mirrored else coded, turns)
    height, width = picture.shape[:2]
    box = Box(10 / width, 4 / height, 20 / width, 16 / height)
    got = cut(coded, box=box, size=(16, 20), turns=turns, mirrored=mirrored)
    assert np.array_equal(got, picture[4:20, 10:30])


def test_pixel_aspect_ratio_widens_the_picture(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    make_film(path, frames=10, options=X264, aspect=Fraction(2))
    assert shown(path) == (WIDTH * 2, HEIGHT)
    square = Frames((0.0,), 64)
    pixels = answer(Source("a", path), [square])[square][0].permute(1, 2, 0).numpy()
    # the centred square of a 192 x 64 picture is its middle third: two of the six blocks
    assert pixels.shape == (64, 64, 3)
    middle = cut(painted(0), box=Box(1 / 3, 0, 1 / 3, 1), size=(64, 64))
    assert np.abs(pixels.astype(int) - middle.astype(int)).mean() < 12


def test_the_centred_box_has_the_aspect_asked_for() -> None:
    assert centred_box((200, 100), (50, 50)) == Box(0.25, 0.0, 0.5, 1.0)
    assert centred_box((100, 200), (50, 50)) == Box(0.0, 0.25, 1.0, 0.5)
    assert centred_box((200, 100), (50, 100)) == Box(0.0, 0.0, 1.0, 1.0)


@pytest.mark.parametrize("box", [Box(-0.1, 0, 0.5, 0.5), Box(0.6, 0, 0.5, 0.5), Box(0, 0, 0, 1)])
def test_a_box_outside_the_picture_is_bad_input(box: Box, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="box must lie within"):
        answer(Source("a", tmp_path / "a.mp4"), [Frames((0.0,), 8, box)])


def test_a_box_of_a_film(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    make_film(path, frames=30, options=X264)
    request = Frames((0.8,), (32, 32), Box(2 / 6, 1 / 4, 2 / 6, 2 / 4))
    got = answer(Source("a", path), [request])[request][0].permute(1, 2, 0).numpy()
    assert np.abs(got.astype(int) - painted(20)[16:48, 32:64].astype(int)).mean() < 12


@pytest.mark.parametrize(
    ("pixels", "codec", "full"),
    [
        ("yuv420p", "libx264", False),
        ("yuv420p", "libx264", True),
        ("yuv420p10le", "libx264", False),
        ("yuv444p", "libx264", False),
    ],
)
def test_black_is_black_and_white_is_white(pixels: str, codec: str, full: bool, tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    make_film(path, frames=10, options={**X264, "qp": "4"}, codec=codec, pixels=pixels, full_range=full)
    request = Frames((0.2,), (HEIGHT, WIDTH), WHOLE)
    got = answer(Source("a", path), [request])[request][0].permute(1, 2, 0).numpy()
    assert number_in(got) == 5
    assert np.abs(got.astype(int) - painted(5)).mean() < 4 and got.max() >= 250 and got.min() <= 5


@pytest.mark.parametrize(("matrix", "name"), [(1, "bt709"), (5, "bt601"), (2, "untagged")])
def test_the_matrix_is_the_one_that_the_file_names(matrix: int, name: str, tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    colour = np.array([200, 40, 60], np.uint8)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25, options={"qp": "1"})
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv444p"
        stream.codec_context.colorspace = matrix
        for number in range(4):
            frame = av.VideoFrame.from_ndarray(np.broadcast_to(colour, (64, 64, 3)).copy(), format="rgb24")
            # ffmpeg takes an untagged film for BT.601, whatever its size
            frame = frame.reformat(format="yuv444p", dst_colorspace="ITU709" if matrix == 1 else "ITU601")
            frame.pts, frame.colorspace = number, matrix
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    request = Frames((0.0,), 16)
    got = answer(Source("a", path), [request])[request][0].permute(1, 2, 0).numpy()
    assert np.abs(got.astype(int) - colour).max() <= 4, name


def test_the_answer_is_a_tensor_of_its_shape_and_kind(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    make_film(path, frames=10, options=X264)
    request = Frames((0.0, 0.1), (10, 20))
    got = answer(Source("a", path), [request, request])[request]
    assert got.shape == (2, 3, 10, 20) and str(got.dtype) == "torch.uint8"
    assert got.permute(0, 2, 3, 1).is_contiguous()


@pytest.mark.parametrize("side", [129, 150, 192, 255, 256, 257, 300, 511, 512, 700])
def test_shrinking_passes_over_no_part_of_the_picture(side: int):
    """A spot as large as a pixel of the result is seen wherever it lies, and the mean brightness stays; picking nearest pixels fails."""
    spot = side // 128
    spots = np.zeros((side, side, 3), np.uint8)
    rng = np.random.default_rng(side)
    whole = Box(0.0, 0.0, 1.0, 1.0)
    for top, left in rng.integers(0, side - spot - 1, size=(50, 2)):
        spots[:] = 0
        spots[top : top + spot, left : left + spot] = 255
        assert cut(spots, box=whole, size=(128, 128)).max() > 10
    noise = rng.integers(0, 256, size=(side, side, 3), dtype=np.uint8)
    assert cut(noise, box=whole, size=(128, 128)).mean() == pytest.approx(noise.mean(), abs=1.0)


def test_shrinking_by_whole_powers_of_two_is_the_mean_of_areas():
    picture = np.random.default_rng(0).integers(0, 256, size=(512, 512, 3), dtype=np.uint8)
    mean = picture.reshape(128, 4, 128, 4, 3).astype(np.float64).mean(axis=(1, 3))
    assert np.abs(cut(picture, box=Box(0.0, 0.0, 1.0, 1.0), size=(128, 128)) - mean).max() <= 1.0  # rounded twice


@pytest.mark.parametrize("turn", [0, 90])
def test_no_decoded_frame_waits_for_the_cycle_collector(turn: int, tmp_path: Path) -> None:
    """A frame holds megabytes; Python looks for cycles by the number of objects, so hundreds of frames would pile up."""
    path = tmp_path / "a.mp4"
    make_film(path, frames=30, options=X264, turn=turn)
    request = Frames((0.0, 0.4, 0.8), 64)
    gc.collect()
    gc.disable()
    try:
        for _ in range(3):
            answer(Source("a", path), [request])
            for _ in play_frames(path, fps=5):
                pass
            shown(path)
        assert [thing for thing in gc.get_objects() if type(thing) is av.VideoFrame] == []
    finally:
        gc.enable()


def two_sizes(folder: Path, container: str) -> Path:
    """A film of two seconds, red and 128 x 96, then blue and 192 x 160: what streams do whose camera or bit rate changes."""
    raw = b""
    for width, height, colour in ((128, 96, (200, 30, 30)), (192, 160, (30, 30, 200))):
        piece = folder / f"{width}.h264"
        with av.open(str(piece), "w", format="h264") as file:
            stream = file.add_stream("libx264", rate=25, options=X264 | {"bf": "0"})
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            picture = np.full((height, width, 3), colour, np.uint8)
            for _ in range(25):
                file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            file.mux(stream.encode(None))
        raw += piece.read_bytes()
    (folder / "both.h264").write_bytes(raw)
    path = folder / f"both.{container}"
    with av.open(str(folder / "both.h264"), format="h264") as pieces, av.open(str(path), "w") as file:
        stream = file.add_stream_from_template(pieces.streams.video[0])
        for number, packet in enumerate(packet for packet in pieces.demux(video=0) if packet.size):
            packet.pts = packet.dts = number
            packet.time_base, packet.duration, packet.stream = Fraction(1, 25), 1, stream
            file.mux(packet)
    return path


@pytest.mark.parametrize("container", ["ts", "mkv", "mp4"])
def test_a_picture_size_that_changes_within_the_film(container: str, tmp_path: Path) -> None:
    path = two_sizes(tmp_path, container)
    request = Frames((0.3, 0.9, 1.1, 1.7), 64)
    found = answer(Source("a", path), [request])[request].float().mean(dim=(2, 3))
    assert found[:2].numpy() == pytest.approx(np.array([(200, 30, 30)] * 2), abs=6)
    assert found[2:].numpy() == pytest.approx(np.array([(30, 30, 200)] * 2), abs=6)
    played = [np.asarray(picture).shape for _, picture in play_frames(path, fps=5)]
    assert len(set(played)) == 1 and len(played) == 10  # a film to be written has one size
