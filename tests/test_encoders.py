"""The contract of every encoder in the folder, at every size; then what is special to some."""

import inspect
import json
import math
import typing
import urllib.error
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torchvision import models

from mmssl.components import component_names
from mmssl.encoders.base import Encoder, build_encoder, encoder_class
from mmssl.nn.inputs import IMAGENET, KINETICS, NormalizePictures
from mmssl.nn.residual import ResidualBlock
from mmssl.types import InputError
from tests.tiny_text import tokenizer_file

# Inputs as small as an architecture takes, so that the large sizes stay quick.
SMALL = {"video_vit": {"pixels": 32, "frames": 4}, "audio_vit": {"seconds": 0.5}, "audio_cnn": {"seconds": 0.6}}
TEXT = ("text_bert", "text_seq2seq")


def sizes(name: str) -> tuple[str, ...]:
    return typing.get_args(typing.get_type_hints(encoder_class(name).__init__)["size"])


ALL = [(name, size) for name in component_names("mmssl.encoders") for size in sizes(name)]
TINY = component_names("mmssl.encoders")
# The whole contract runs on these by default, and on every size in the slow runs; shapes run on all but the largest.
QUICK = {(name, "tiny") for name in TINY} | {("frame_resnet", "resnet18"), ("audio_cnn", "vgg")}


def pairs(quick: set[tuple[str, str]]) -> list[object]:
    """All encoders and sizes, those that are not `quick` marked slow."""
    return [pytest.param(pair, marks=[] if pair in quick else [pytest.mark.slow], id="-".join(pair)) for pair in ALL]


def build(name: str, size: str, **more: object) -> Encoder:
    torch.manual_seed(0)
    text: dict[str, object] = {"tokenizer": tokenizer_file(), "tokens": 16} if name in TEXT else {}
    if name == "text_seq2seq":
        text["decoder"] = False  # what writes takes no part in `forward`; see test_text_encoders.py
    return build_encoder(name, {"size": size, **SMALL.get(name, {}), **text, **more}).eval()


def inputs(encoder: Encoder, clips: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    if encoder.modality == "text":
        return torch.randint(6, encoder.vocabulary.size, (clips, 12), generator=generator)
    if encoder.modality == "audio":
        return torch.randn(clips, round(encoder.spec.rate * encoder.spec.seconds), generator=generator) * 0.1
    frames = encoder.spec.frames if encoder.spec.frames in (4,) else {"frame": 2, "video": 8, "flow": 8}[encoder.modality]
    side = encoder.spec.size if encoder.spec.size <= 32 else 64
    if encoder.modality == "flow":
        return 3 * torch.randn(clips, frames, 2, side, side, generator=generator)
    return torch.randint(0, 256, (clips, frames, 3, side, side), generator=generator, dtype=torch.uint8)


@pytest.fixture(scope="module", params=pairs(QUICK))
def encoder(request: pytest.FixtureRequest) -> Encoder:
    return build(*request.param)


def test_every_encoder_has_a_tiny_size():
    assert len(TINY) >= 5 and all("tiny" in sizes(name) for name in TINY)


@pytest.mark.parametrize("pair", pairs({pair for pair in ALL if pair[1] != "base"}))
def test_shapes_and_types(pair):
    encoder = build(*pair)
    x = inputs(encoder)
    with torch.no_grad():
        features = encoder(x)
    assert features.pooled.shape == (2, encoder.dim)
    assert (features.valid is None) == (encoder.modality != "text")
    assert features.pooled.dtype == features.grid.dtype == torch.float32
    assert features.grid.ndim == {"audio": 4, "text": 3}.get(encoder.modality, 5)
    assert features.grid.shape[0] == 2 and features.grid.shape[-1] == encoder.dim
    if encoder.modality not in ("audio", "text"):
        cells = x.shape[-1] / encoder.grid_stride
        assert features.grid.shape[2:4] == (cells, cells)
    if encoder.modality == "frame":
        assert features.grid.shape[1] == x.shape[1]


def test_eval_is_deterministic_rows_are_independent_and_input_is_left_alone(encoder):
    x = inputs(encoder, 3)
    before = x.clone()
    with torch.no_grad():
        first, again, alone = encoder(x), encoder(x), encoder(x[1:2])
    assert torch.equal(first.grid, again.grid) and torch.equal(first.pooled, again.pooled)
    scale = first.grid.abs().max()  # an untrained S3D in eval mode gives numbers of 1e-6
    torch.testing.assert_close(alone.grid[0] / scale, first.grid[1] / scale, rtol=0, atol=1e-4)
    torch.testing.assert_close(alone.pooled[0] / scale, first.pooled[1] / scale, rtol=0, atol=1e-4)
    assert (first.pooled[0] - first.pooled[1]).abs().max() > 1e-3 * scale  # or the above would say nothing
    assert torch.equal(x, before)


def test_features_are_fresh_tensors(encoder):
    features = encoder(inputs(encoder))
    for tensor in (features.pooled, features.grid):
        assert not tensor._is_view() and tensor.is_contiguous()
    assert features.pooled.untyped_storage().data_ptr() != features.grid.untyped_storage().data_ptr()


def test_gradient_reaches_every_parameter(encoder):
    encoder.train()
    features = encoder(inputs(encoder))
    torch.manual_seed(2)
    value = (features.pooled * torch.randn_like(features.pooled)).sum() + (features.grid * torch.randn_like(features.grid)).sum()
    value.backward()
    without = [name for name, p in encoder.named_parameters() if p.grad is None or not p.grad.any()]
    encoder.zero_grad()
    encoder.eval()
    assert without == []


def test_bf16_autocast_is_finite_and_near(encoder):
    x = inputs(encoder)
    with torch.no_grad():
        exact = encoder(x)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rough = encoder(x)
    assert rough.grid.isfinite().all()
    assert nn.functional.cosine_similarity(rough.pooled.float(), exact.pooled, dim=1).min() > 0.99


def test_saved_and_rebuilt_is_equal(encoder, tmp_path):
    encoder.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    carried = {argument: file for argument, (file, _) in encoder.attached.items()}
    assert config["arguments"] == encoder.arguments | carried
    assert set(config["arguments"]) <= set(inspect.signature(type(encoder)).parameters)
    rebuilt = Encoder.from_pretrained(tmp_path).eval()
    assert type(rebuilt) is type(encoder) and rebuilt.dim == encoder.dim
    assert replace(rebuilt.spec, tokenizer="") == replace(encoder.spec, tokenizer="")
    state = rebuilt.state_dict()
    assert state.keys() == encoder.state_dict().keys()
    assert all(torch.equal(value, state[key]) for key, value in encoder.state_dict().items())
    with torch.no_grad():
        assert torch.equal(rebuilt(inputs(encoder)).grid, encoder(inputs(encoder)).grid)


@pytest.mark.parametrize("name", TINY)
def test_uint8_and_float_pictures_agree(name):
    encoder = build(name, "tiny")
    x = inputs(encoder)
    if encoder.modality in ("audio", "text", "flow"):
        pytest.skip(f"{encoder.modality} has one type")
    with torch.no_grad():
        torch.testing.assert_close(encoder(x.float() / 255).grid, encoder(x).grid, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", TINY)
def test_wrong_input_is_named_with_value_limit_and_move(name):
    encoder = build(name, "tiny")
    x = inputs(encoder)
    if encoder.modality == "text":
        wrong = [(x[0], r"\(N, L\)"), (x.float(), "float32"), (torch.cat([x, x], 1), "24 tokens; .* 1 to 16: lower")]
    elif encoder.modality == "audio":
        wrong = [
            (x[:, None], "mono"),
            (x.to(torch.int16), "32768"),
            (x[:, :100], r"100 samples .* (at least|exactly) \d+: change"),
        ]
    elif encoder.modality == "flow":
        wrong = [
            (x[0], r"\(N, T, 2, H, W\)"),
            (x[:, :, [0, 1, 1]], r"\(N, T, 2, H, W\)"),
            (x.to(torch.int64), "int64"),
            (x[..., :4], r"4 width in pixels; .* at least \d+: change"),
            (x[:, :1], r"1 frames; .* at least 2: change"),
        ]
    else:
        wrong = [
            (x[0], r"\(N, T, 3, H, W\)"),
            (x.transpose(1, 2)[:, :, :1], r"\(N, T, 3, H, W\)"),
            (x.to(torch.int64), "int64"),
            (x[..., :4], r"4 width in pixels; .* (at least|exactly) \d+: change"),
        ]
    for value, text in wrong:
        with pytest.raises(ValueError, match=text):
            encoder(value)


@pytest.mark.parametrize("name", TINY)
def test_wrong_arguments_are_named(name):
    with pytest.raises(ValueError, match="size must be one of tiny"):
        build_encoder(name, {"size": "huge"})
    with pytest.raises(InputError, match="it takes size"):
        build_encoder(name, {"sise": "tiny"})


@pytest.mark.parametrize("name", ["frame_resnet", "video_resnet", "audio_cnn", "flow_cnn"])
def test_group_norm_makes_training_rows_independent(name):
    encoder = build(name, "tiny").train()
    x = inputs(encoder, 3)
    with torch.no_grad():
        torch.testing.assert_close(encoder(x[:1]).grid[0], encoder(x).grid[0], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("mels", [64, 61])
@pytest.mark.parametrize("size", sizes("audio_cnn"))
def test_a_band_offset_fits_is_trained_and_saved(size, mels, tmp_path):
    encoder = build("audio_cnn", size, mels=mels, band_offset=True)
    x = inputs(encoder)
    before = encoder(x).pooled
    before.sum().backward()
    (offset,) = [parameter for name, parameter in encoder.named_parameters() if name.endswith("offset")]
    assert offset.grad is not None and offset.grad.abs().sum() > 0
    encoder.save_pretrained(tmp_path)
    torch.testing.assert_close(Encoder.from_pretrained(tmp_path).eval()(x).pooled, before)


def test_only_with_a_band_offset_is_timbre_known_from_pitch():
    """The same pattern an octave of bands higher, far from all borders, averages to the same features without the offset."""
    spectrogram = torch.zeros(1, 1, 64, 256)
    higher = spectrogram.clone()
    spectrogram[..., 28:36, 100:108] = 1.0
    higher[..., 28:36, 116:124] = 1.0
    for band_offset in (False, True):
        encoder = build("audio_cnn", "tiny", mels=256, band_offset=band_offset, pool="mean")
        low, high = (encoder.stages(x).mean((2, 3)) for x in (spectrogram, higher))
        assert torch.allclose(low, high, atol=1e-6) != band_offset


def test_flow_in_half_precision_is_flow():
    encoder = build("flow_cnn", "tiny")
    x = inputs(encoder).half()
    with torch.no_grad():
        assert torch.equal(encoder(x).grid, encoder(x.float()).grid)


def test_flow_is_normalised_in_units_with_both_ends_kept():
    encoder = build("flow_cnn", "tiny", unit=2.0)
    x = torch.tensor([0.0, 0.2, -0.2, 40.0, 400.0]).view(5, 1, 1, 1, 1).expand(5, 2, 2, 8, 8)
    slow, fast = encoder.normalize(x)[:3, 0, 0, 0, 0], encoder.normalize(x)[3:, 0, 0, 0, 0]
    torch.testing.assert_close(slow, torch.tensor([0.0, 0.1, -0.1]), atol=1e-3, rtol=0)
    torch.testing.assert_close(fast, torch.tensor([math.log(40.0), math.log(400.0)]), atol=1e-2, rtol=0)
    assert build("flow_cnn", "tiny", pixels=128).normalize.unit == 2.0
    with pytest.raises(ValueError, match="unit must be above 0"):
        build("flow_cnn", "tiny", unit=0.0)


def test_only_with_centre_is_a_panning_camera_taken_away():
    pan = torch.tensor([5.0, -2.0]).view(2, 1, 1)
    for centre in (False, True):
        encoder = build("flow_cnn", "tiny", centre=centre)
        x = inputs(encoder)
        with torch.no_grad():
            assert torch.allclose(encoder(x).grid, encoder(x + pan).grid, atol=1e-4) == centre


def test_a_frame_encoder_sees_each_picture_alone():
    encoder = build("frame_resnet", "tiny")
    x = inputs(encoder)
    with torch.no_grad():
        grid, swapped = encoder(x).grid, encoder(x.flip(1)).grid
    torch.testing.assert_close(swapped, grid.flip(1), rtol=1e-4, atol=1e-5)
    assert (grid[:, 0] - grid[:, 1]).abs().max() > 0.01


@pytest.mark.parametrize("stride", [(2, 2), (2, 2, 2), (1, 1)])
def test_residual_blocks_compile_whole(stride):
    block = ResidualBlock(8, 16, stride=stride, norm="group")
    x = torch.randn(2, 8, *(8 for _ in stride))
    torch.testing.assert_close(torch.compile(block, fullgraph=True, backend="eager")(x), block(x))
    assert block(x).shape == (2, 16, *(8 // step for step in stride))


# ------------------------------------------------------------------------------------------------- where the cells of a grid lie


def averaging(encoder: Encoder) -> Encoder:
    """All kernels and poolings into plain averages, all norms out: what is left is geometry."""
    for module in list(encoder.modules()):
        if isinstance(module, nn.Conv2d | nn.Conv3d):
            nn.init.constant_(module.weight, 1 / module.weight[0].numel())
        for name, child in list(module.named_children()):
            if isinstance(child, nn.GroupNorm | nn.BatchNorm2d | nn.BatchNorm3d):
                setattr(module, name, nn.Identity())
            elif isinstance(child, nn.MaxPool2d | nn.MaxPool3d):  # a maximum picks a side by the values, not by the geometry
                average = nn.AvgPool2d if isinstance(child, nn.MaxPool2d) else nn.AvgPool3d
                setattr(module, name, average(child.kernel_size, child.stride, child.padding))
    return encoder


def centre(encoder: Encoder, x: Tensor, cell: tuple[int, int, int]) -> list[float]:
    """Centre of gravity (frame, row, column) of the input gradient of one cell of the grid."""
    x.requires_grad_()
    time, row, column = cell
    encoder(x).grid[:, time, row, column].sum().backward()
    assert x.grad is not None
    weight = x.grad.abs().sum((0, 2))
    axes = [torch.arange(extent, dtype=weight.dtype) for extent in weight.shape]
    total = weight.sum()
    return [float((weight.sum([d for d in range(3) if d != axis]) * places).sum() / total) for axis, places in enumerate(axes)]


@pytest.mark.parametrize(
    ("name", "size", "more", "frames", "side"),
    [
        ("frame_resnet", "tiny", {}, 1, 128),
        ("frame_resnet", "resnet18", {}, 1, 448),
        ("frame_resnet", "resnet18", {"output_stride": 16}, 1, 448),
        ("frame_resnet", "resnet18", {"output_stride": 8}, 1, 448),
        ("frame_resnet", "tiny", {"output_stride": 4}, 1, 128),
        ("frame_resnet", "resnet18", {"output_stride": 4, "padding": "reflect", "dilated": False}, 1, 320),
        pytest.param("frame_resnet", "resnet34", {}, 1, 640, marks=pytest.mark.slow),
        pytest.param("frame_resnet", "resnet50", {}, 1, 448, marks=pytest.mark.slow),
        ("video_resnet", "tiny", {}, 8, 64),
        pytest.param("video_resnet", "r3d_18", {}, 1, 256, marks=pytest.mark.slow),
        ("video_resnet", "mc3_18", {}, 1, 256),
        pytest.param("video_resnet", "r2plus1d_18", {}, 1, 256, marks=pytest.mark.slow),
        pytest.param("video_resnet", "s3d", {}, 24, 320, marks=pytest.mark.slow),
        ("flow_cnn", "tiny", {}, 8, 64),
    ],
)
def test_grid_offset_and_stride_are_true(name, size, more, frames, side):
    encoder = averaging(build(name, size, **more))
    middle = round(side / 2 / encoder.grid_stride)
    channels = 2 if encoder.modality == "flow" else 3
    x = 0.8 + 0.2 * torch.rand(1, frames, channels, side, side, generator=torch.Generator().manual_seed(0))
    _, row, column = centre(encoder, x, (0, middle, middle - 1))
    assert row == pytest.approx(encoder.grid_offset + encoder.grid_stride * middle, abs=0.75)
    assert column == pytest.approx(encoder.grid_offset + encoder.grid_stride * (middle - 1), abs=0.75)


@pytest.mark.parametrize(
    ("size", "frames"),
    [
        ("tiny", 16),
        ("mc3_18", 8),
        *(pytest.param(size, 96, marks=pytest.mark.slow) for size in ("r3d_18", "r2plus1d_18")),
        pytest.param("s3d", 128, marks=pytest.mark.slow),
    ],
)
def test_time_offset_and_stride_are_true(size, frames):
    encoder = averaging(build("video_resnet", size))
    middle = round(frames / 2 / encoder.time_stride)
    x = 0.8 + 0.2 * torch.rand(1, frames, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    time, _, _ = centre(encoder, x, (middle, 1, 1))
    assert time == pytest.approx(encoder.time_offset + encoder.time_stride * middle, abs=0.25)


def test_tubelets_lie_where_the_grid_says():
    encoder = build("video_vit", "tiny")
    x = torch.rand(1, 4, 3, 32, 32, requires_grad=True)
    tokens = encoder.net.embeddings.patch_embeddings(x).unflatten(1, (2, 4, 4))
    tokens[0, 1, 2, 3].abs().sum().backward()
    frames, rows, columns = ((x.grad[0].abs().sum(1) > 0).nonzero().float().mean(0)).tolist()
    assert frames == encoder.time_offset + encoder.time_stride
    assert (rows, columns) == (encoder.grid_offset + 2 * encoder.grid_stride, encoder.grid_offset + 3 * encoder.grid_stride)


def test_spectrogram_patches_are_time_first():
    """A click late in the sound changes the late cells of the grid most; a high tone the high bands."""
    encoder = build("audio_vit", "tiny")
    x = torch.rand(1, 8000) * 1e-3
    x[0, 7000] += 1.0
    x.requires_grad_()
    patches = encoder.net.embeddings.patch_embeddings(encoder.logmel(x)).unflatten(1, (encoder.cells[1], encoder.cells[0]))
    assert encoder(x).grid.shape[1:3] == encoder.cells
    reach = []
    for place in (0, encoder.cells[0] - 1):
        (gradient,) = torch.autograd.grad(patches.transpose(1, 2)[0, place].sum(), x, retain_graph=True)
        reach.append(float(gradient.abs()[0].nonzero().float().mean()))
    assert reach[0] < 2500 and reach[1] > 4500


@pytest.mark.parametrize("size", ["resnet18", "resnet50"])
def test_dilation_computes_what_the_strides_did(size):
    coarse, fine = build("frame_resnet", size), build("frame_resnet", size, output_stride=8)
    fine.load_state_dict(coarse.state_dict())
    x = inputs(coarse)
    with torch.no_grad():
        torch.testing.assert_close(fine(x).grid[:, :, ::4, ::4], coarse(x).grid, rtol=1e-3, atol=1e-4)


def test_strides_of_four_and_eight_dilated_compute_the_same():
    coarse, fine = build("frame_resnet", "resnet18"), build("frame_resnet", "resnet18", output_stride=4)
    fine.load_state_dict(coarse.state_dict())
    x = inputs(coarse)
    with torch.no_grad():
        torch.testing.assert_close(fine(x).grid[:, :, ::8, ::8], coarse(x).grid, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("stride", [4, 8])
def test_strides_taken_away_leave_cells_that_see_less(stride):
    encoder = averaging(build("frame_resnet", "resnet18", output_stride=stride, dilated=False))
    assert all(m.dilation == (1, 1) for m in encoder.modules() if isinstance(m, nn.Conv2d))
    x = torch.rand(1, 1, 3, 256, 256)
    assert encoder(x).grid.shape[2:4] == (256 // stride, 256 // stride)
    with pytest.raises(ValueError, match="dilated=True"):
        build("frame_resnet", "resnet18", output_stride=stride, dilated=False, weights="IMAGENET1K_V1")


@pytest.mark.parametrize(("size", "stride"), [("tiny", 8), ("tiny", 4), ("resnet18", 32), ("resnet18", 8), ("resnet18", 4)])
@pytest.mark.parametrize("dilated", [True, False])
def test_with_reflection_no_cell_can_tell_its_place_from_the_border(size, stride, dilated):
    flat = torch.full((1, 1, 3, 96, 96), 77, dtype=torch.uint8)
    apart = {}
    for padding in ("zeros", "reflect"):
        encoder = build("frame_resnet", size, output_stride=stride, dilated=dilated, padding=padding)
        with torch.no_grad():
            grid = encoder(flat).grid[0, 0].flatten(0, 1)
        apart[padding] = ((grid - grid[len(grid) // 2]).norm(dim=1).max() / grid.norm(dim=1).mean()).item()
    assert apart["reflect"] < 1e-4
    assert apart["zeros"] > 0.05


@pytest.mark.parametrize("stride", [8, 32])
def test_reflection_leaves_the_middle_and_the_weights_as_they_were(stride, tmp_path):
    zeros, reflect = (
        build("frame_resnet", "resnet18", output_stride=stride, padding=padding) for padding in ("zeros", "reflect")
    )
    assert {k: v.shape for k, v in reflect.state_dict().items()} == {k: v.shape for k, v in zeros.state_dict().items()}
    assert all(torch.equal(reflect.state_dict()[key], value) for key, value in zeros.state_dict().items())
    reflect.save_pretrained(tmp_path)
    rebuilt = Encoder.from_pretrained(tmp_path).eval()
    x = inputs(reflect)
    with torch.no_grad():
        assert torch.equal(rebuilt(x).grid, reflect(x).grid)
        assert not torch.equal(zeros(x).grid, reflect(x).grid)


def test_reflection_refuses_a_picture_that_is_too_small_for_it():
    encoder = build("frame_resnet", "resnet18", output_stride=8, padding="reflect")
    assert encoder.least == 40  # a dilation of 4 reflects 4 cells: a grid of 5
    encoder(torch.zeros(1, 1, 3, 40, 40))
    with pytest.raises(ValueError, match="at least 40"):
        encoder(torch.zeros(1, 1, 3, 39, 40))


# ------------------------------------------------------------------------------------------------------------- published weights


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub cache of our own, without a network."""

    def refuse(url: str, *args: object, **kwargs: object) -> None:
        raise urllib.error.URLError("no network in tests")

    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    return tmp_path / "hub" / "checkpoints"


@pytest.mark.parametrize(
    ("name", "size", "weights", "entry", "normalisation"),
    [
        ("frame_resnet", "resnet18", "IMAGENET1K_V1", models.ResNet18_Weights.IMAGENET1K_V1, IMAGENET),
        ("video_resnet", "mc3_18", "KINETICS400_V1", models.video.MC3_18_Weights.KINETICS400_V1, KINETICS),
    ],
)
def test_published_weights_are_loaded_and_kept(hub, tmp_path, name, size, weights, entry, normalisation):
    torch.manual_seed(7)
    net = models.get_model(size)
    file = hub / entry.url.rsplit("/", 1)[1]
    torch.save(net.state_dict(), file)
    encoder = build(name, size, weights=weights)
    assert torch.equal(encoder.state_dict()["stages.1.0.conv1.weight" if name == "frame_resnet" else "stages.1.0.conv1.0.weight"],
                       net.state_dict()["layer1.0.conv1.weight" if name == "frame_resnet" else "layer1.0.conv1.0.weight"])  # fmt: skip
    assert torch.equal(encoder.normalize.mean, torch.tensor(normalisation[0]))
    encoder.save_pretrained(tmp_path / "saved")
    file.unlink()  # a saved encoder brings its own
    rebuilt = Encoder.from_pretrained(tmp_path / "saved").eval()
    with torch.no_grad():
        assert torch.equal(rebuilt(inputs(encoder)).pooled, encoder(inputs(encoder)).pooled)


def test_weights_that_cannot_be_had_are_named(hub):
    with pytest.raises(InputError, match=r"IMAGENET1K_V1 of resnet18 cannot be fetched .*no network.*; go online"):
        build("frame_resnet", "resnet18", weights="IMAGENET1K_V1")
    with pytest.raises(InputError, match="has no weights 'KINETICS' for resnet18; it has IMAGENET1K_V1"):
        build("frame_resnet", "resnet18", weights="KINETICS")
    with pytest.raises(ValueError, match="norm='batch', got size='tiny'"):
        build("frame_resnet", "tiny", weights="IMAGENET1K_V1")
    (hub / models.ResNet18_Weights.IMAGENET1K_V1.url.rsplit("/", 1)[1]).write_bytes(b"\x80\x02cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(InputError, match="cannot be fetched"):
        build("frame_resnet", "resnet18", weights="IMAGENET1K_V1")


@pytest.mark.parametrize("kind", [torch.uint8, torch.float32, torch.float64])
@pytest.mark.parametrize("layout", ["planes", "interleaved", "a part", "expanded"])
@pytest.mark.parametrize("axes", [4, 5])
@pytest.mark.parametrize("large", [1, 2**23])
def test_pictures_are_normalised_alike_in_every_memory_layout(kind, layout, axes, large, monkeypatch):
    monkeypatch.setattr("mmssl.nn.inputs.LARGE", large)  # numbers from which on NumPy gives the memory
    whole = torch.randint(0, 256, (2, 3, 3, 10, 14), dtype=torch.uint8)
    x = whole if kind == torch.uint8 else whole.to(kind) / 255
    if layout == "interleaved":
        x = x.movedim(2, -1).contiguous().movedim(-1, 2)
    elif layout == "a part":
        x = x[..., 1:9, 2:13]
    elif layout == "expanded":
        x = x[:1, :1].expand(2, 3, -1, -1, -1)
    x = x if axes == 5 else x[0]
    mean, std = torch.tensor([0.4, 0.5, 0.6]).view(3, 1, 1), torch.tensor([0.2, 0.3, 0.1]).view(3, 1, 1)
    want = ((x.double() / 255 if kind == torch.uint8 else x.double()) - mean) / std
    got = NormalizePictures(mean.flatten().tolist(), std.flatten().tolist())(x)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, want.float(), rtol=1e-5, atol=2e-6)
    if layout == "interleaved":
        assert got.movedim(-3, -1).is_contiguous()


def test_gradients_reach_a_picture_through_its_normalisation():
    x = torch.rand(1, 1, 3, 4, 4, requires_grad=True)
    NormalizePictures((0.5, 0.5, 0.5), (0.25, 0.5, 1.0))(x).sum().backward()
    assert x.grad is not None and torch.allclose(x.grad.mean((0, 1, 3, 4)), torch.tensor([4.0, 2.0, 1.0]))
