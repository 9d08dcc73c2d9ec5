"""What the objectives really get, as a picture: people debug data by looking at it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from mmssl.data.loader import StepBatch
from mmssl.data.stream import Stream
from mmssl.downstream.spectrogram import spectrogram_image
from mmssl.files import make_aside
from mmssl.types import Source, Views
from mmssl.vocabulary import Vocabulary, load_tokenizer

PICTURE = 112  # pixels, side of a frame on the sheet
MARGIN = 10
ACROSS = 11 * PICTURE  # pixels that a line of pictures may be wide, so that long clips can be seen on a screen
INK, PAPER, FAINT = (30, 30, 34), (250, 250, 247), (120, 120, 125)
Augments = Mapping[str, Callable[[Tensor], Tensor] | None]  # batch key -> augmentation


def batch_sheet(
    batch: StepBatch,
    streams: Sequence[Stream],
    out: Path,
    *,
    rows: int = 8,
    augments: Mapping[str, Augments] | None = None,
) -> Path:
    """Draw the first rows of a batch for each distinct cut: frames, spectrograms, texts, labels, captions, and the augmented frames.

    Args:
        batch: one step of a `Loader` over `streams`.
        out: PNG file.
        rows: of each cut to draw.
        augments: objective -> batch key -> augmentation, drawn under the plain input where given.
    """
    blocks: list[Image.Image] = []
    for stream in streams:
        for cut, views in enumerate(stream.distinct):
            names = [name for name, place in stream.cut_of.items() if place == cut]
            values = batch.micro[0][names[0]]
            given = (augments or {}).get(names[0], {})
            blocks.append(_block(f"stream {stream.index}: {', '.join(names)}", views, values, stream.sources, rows, given))
    sheet = _stack(blocks)
    make_aside(out, lambda part: sheet.save(part))
    return out


def _block(
    title: str, views: Views, values: Mapping[str, Tensor], sources: Sequence[Source], rows: int, augments: Augments
) -> Image.Image:
    shown = dict(values)
    for key, augment in augments.items():
        if key in shown and augment is not None:
            shown[f"{key}, augmented"] = augment(shown[key])
    tokenizer = getattr(views, "tokenizer", None)
    words = load_tokenizer(tokenizer) if tokenizer else None
    lines = [
        _row({key: value[number] for key, value in shown.items()}, sources, words)
        for number in range(min(rows, len(values["source"])))
    ]
    head = _text_image([title, str(views)], 16)
    return _stack([head, *lines])


def _row(values: Mapping[str, Tensor], sources: Sequence[Source], words: Vocabulary | None = None) -> Image.Image:
    source = sources[int(values["source"])]
    parts: list[list[Image.Image]] = []  # of each key
    labels: list[str] = [source.id]
    for key, value in values.items():
        if value.ndim == 4 and value.shape[1] == 2:
            fastest = value.float().norm(dim=1).flatten(1).amax(dim=1).tolist()
            pictures = flow_pictures(value)
            parts.append([_labelled(_frame(p), f"{key} {n}: to {fastest[n]:.1f} px") for n, p in enumerate(pictures)])
        elif value.ndim == 4:
            parts.append([_labelled(_frame(frame), f"{key} {number}") for number, frame in enumerate(value)])
        elif value.ndim == 2 and words is not None and not value.is_floating_point():
            labels += [f"{key}: {words.words(text, special=True)}" for text in value.tolist()]
        elif value.ndim == 1:
            parts.append([_labelled(spectrogram_image(value.float().numpy(), PICTURE, PICTURE * 2), key)])
        elif value.ndim == 0 and key != "source":
            labels.append(f"{key} = {value.item():.4g}")
    said = " / ".join(cue.text for cue in source.cues[:6])
    labels += [f"captions: {said}"] if said else []
    return _stack([*map(_beside, _lines(parts)), _text_image(labels, 12)], gap=2)


def _lines(parts: Sequence[Sequence[Image.Image]]) -> list[list[Image.Image]]:
    """Pictures by lines: all in one where they fit, else each key begins a line and goes on in as many as it needs."""
    together = [image for key in parts for image in key]
    lines: list[list[Image.Image]] = []
    for images in [together] if sum(image.width for image in together) <= ACROSS else parts:
        width = ACROSS + 1
        for image in images:
            if width + image.width > ACROSS:
                lines.append([])
                width = 0
            lines[-1].append(image)
            width += image.width
    return lines


def flow_pictures(flow: Tensor) -> Tensor:
    """(T, 2, H, W) -> uint8 (T, 3, H, W): the direction as hue, the speed as saturation; white stands still.

    The colour wheel of Baker et al., "A Database and Evaluation Methodology for Optical Flow", IJCV 2011; the fastest pixel of all T is full.
    """
    from torchvision.utils import flow_to_image

    return flow_to_image(flow.float())


def _frame(frame: Tensor) -> Image.Image:
    array = frame if frame.dtype == torch.uint8 else (frame.clamp(0, 1) * 255).round().to(torch.uint8)
    image = Image.fromarray(array.permute(1, 2, 0).numpy())
    return image.resize((round(PICTURE * image.width / image.height), PICTURE), Image.Resampling.BILINEAR)


def _font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    from matplotlib import font_manager

    return ImageFont.truetype(font_manager.findfont("DejaVu Sans"), size)


def _text_image(lines: Sequence[str], size: int) -> Image.Image:
    font = _font(size)
    wrapped = [line if len(line) <= 150 else line[:149] + "…" for line in lines]
    width = max(round(font.getlength(line)) for line in wrapped) + 4
    image = Image.new("RGB", (width, round(size * 1.45) * len(wrapped)), PAPER)
    draw = ImageDraw.Draw(image)
    for number, line in enumerate(wrapped):
        draw.text((2, number * round(size * 1.45)), line, font=font, fill=INK if number == 0 else FAINT)
    return image


def _labelled(image: Image.Image, text: str) -> Image.Image:
    return _stack([image, _text_image([text], 10)], gap=1)


def _beside(images: Sequence[Image.Image]) -> Image.Image:
    width = sum(image.width for image in images) + 4 * max(0, len(images) - 1)
    sheet = Image.new("RGB", (max(1, width), max((image.height for image in images), default=1)), PAPER)
    left = 0
    for image in images:
        sheet.paste(image, (left, 0))
        left += image.width + 4
    return sheet


def _stack(images: Sequence[Image.Image], gap: int = MARGIN) -> Image.Image:
    height = sum(image.height for image in images) + gap * (len(images) + 1)
    sheet = Image.new("RGB", (max(image.width for image in images) + 2 * gap, height), PAPER)
    top = gap
    for image in images:
        sheet.paste(image, (gap, top))
        top += image.height + gap
    return sheet
