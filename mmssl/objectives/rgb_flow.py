"""Pictures and their motion: which flow belongs to this picture, and which of its pixels move alike?

Optical flow knows nothing of colour or texture, only of what moves how. A network on pictures that agrees with it has to know what holds
together and what such things do.

Form "instance": pictures and flow of one moment against those of other clips. Sayed, Brattoli, Ommer, "Cross and Learn: Cross-Modal
Self-Supervision", GCPR 2018, arXiv:1811.03879; their pair of losses (near across modalities, apart across clips) is here one symmetric softmax over the
batch (InfoNCE).

Form "pixel": two cells of a picture are embedded as alike as their flow vectors are. Mahendran, Thewlis, Vedaldi, "Cross Pixel
Optical-Flow Similarity for Self-Supervised Learning", ACCV 2018, arXiv:1807.05636, section 3, in the form of a cross-entropy. For cells p, q of one
picture with flow f and unit-length embeddings e:

    target(q | p) = softmax over q != p of -|f_p - f_q|^2 / (2 sigma^2)
    answer(q | p) = softmax over q != p of e_p . e_q / temperature
    loss          = mean over p of  - sum over q of target(q | p) log answer(q | p)

n rows of this rank, B rows of all ranks, T times, C cells of a grid at one time, M of them drawn, D joint features.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from mmssl.cuts.pictures import WHOLE, check_crop, check_region, draw_box, even_times, region_box, region_problem
from mmssl.encoders.bank import EncoderBank
from mmssl.encoders.base import Encoder
from mmssl.nn.augment import FrameAugment
from mmssl.nn.cross_pixel import CrossPixel, agreement, cross_pixel, draw_cells, uninformed
from mmssl.nn.gather import gather_rows, own_rows
from mmssl.nn.heads import Projection, Temperature
from mmssl.nn.health import TIE, hits, masked_mean, spread
from mmssl.nn.losses import row_mean
from mmssl.nn.nce import info_nce
from mmssl.nn.strangers import next_stranger
from mmssl.objectives.base import Batch, Judged, Objective
from mmssl.types import MOTION_HOP, Box, Features, Flow, Frames, InputError, InputSpec, Loss, Modality, Plan, Source, Span, Views


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowViews(Views):
    """Pictures, and the flow of the same window, through the same crop.

    Requests `video` (frames, 3, size, size) and `flow` (flows, 2, flow_size, flow_size), both evenly spread over flows / fps seconds; where
    there are as many pictures as fields, each field begins at its picture. None stands for what the encoders were built for (`resolve`).
    """

    needs_motion: ClassVar[bool] = True

    frames: int | None = None  # pictures; 1 where the encoder takes any number
    flows: int | None = None  # fields of flow; 8 where the encoder takes any number
    fps: float | None = None  # fields a second; 12.5 where the encoder takes any
    step: float | None = None  # seconds that a field spans; None: until the next one
    size: int | None = None  # pixels of a picture
    flow_size: int | None = None  # pixels of a field
    method: str = "dis"  # of computing flow: "dis" (OpenCV), or "raft" or "raft_small" where their weights are at hand
    crop: tuple[float, float] = (0.7, 1.0)  # side of the square box as a share of the region's shorter side
    region: tuple[float, float, float, float] = WHOLE  # left, top, width, height of what is looked at: keep black bars out of it
    min_motion: float = (
        0.5  # mean of `Source.motion` in the window: stiller windows are not drawn, sources without livelier ones are "still"
    )

    def __post_init__(self) -> None:
        check_crop(self.crop)
        check_region(self.region)
        for name in ("frames", "flows", "fps", "step", "size", "flow_size"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise InputError(f"views.{name} is {value}; it must be above 0, or left out")

    def resolve(self, picture: InputSpec, flow: InputSpec) -> FlowViews:
        """These views with every None filled in. Raises `InputError` where neither views nor encoders say a size."""
        for name, size in (("size", self.size or picture.size), ("flow_size", self.flow_size or flow.size)):
            if not size:
                raise InputError(f"the encoder takes any size, so views.{name} must say which, for example 112")
        fps = self.fps or flow.fps or 12.5
        return replace(
            self,
            frames=self.frames or picture.frames or 1,
            flows=self.flows or flow.frames or 8,
            fps=fps,
            step=self.step or 1.0 / fps,
            size=self.size or picture.size,
            flow_size=self.flow_size or flow.size,
        )

    def reject(self, source: Source) -> str | None:
        """ "no picture", "shorter than 0.68 s", "fewer than 12.5 pictures a second", "still", or no size for a region."""
        if source.video is None:
            return "no picture"
        if problem := region_problem(source, self.region):
            return problem
        seconds, reach, step = self._lengths()
        if source.video.seconds < reach - 1e-6:
            return f"shorter than {reach:.2f} s"
        if 0.0 < source.fps < 0.98 / step:  # every second field would be between a picture and itself
            return f"fewer than {1 / step:.3g} pictures a second"
        edges, lively = self._starts(source, source.video, seconds, reach)
        return None if len(edges) == 1 or lively.any() else "still"

    def whole(self, source: Source) -> Box | None:
        """The region's largest centred square."""
        return region_box(source, self.region)

    def plan(self, source: Source, rng: np.random.Generator) -> Plan:
        """Draw a window in which something moves, uniform over all of these, and the crop."""
        seconds, reach, step = self._lengths()
        assert source.video is not None and self.frames and self.flows and self.fps and self.size and self.flow_size
        edges, lively = self._starts(source, source.video, seconds, reach)
        covered = np.cumsum(np.diff(edges) * lively)
        place = float(rng.random())
        start = float(edges[0])
        if len(covered) and covered[-1] > 0.0:
            cell = int(np.searchsorted(covered, place * covered[-1], side="right"))
            start = float(edges[cell + 1] - (covered[cell] - place * covered[-1]))
        box = draw_box(source, self.crop, rng, region=self.region)
        return Plan(
            {
                "video": Frames(even_times(start, seconds, self.frames, self.frames / seconds), self.size, box),
                "flow": Flow(even_times(start, seconds, self.flows, self.fps), step, self.flow_size, box, self.method),
            }
        )

    def _lengths(self) -> tuple[float, float, float]:
        """Seconds of the window, seconds from its start to the last picture that is needed, seconds of a step."""
        if None in (self.frames, self.flows, self.fps, self.step, self.size, self.flow_size):
            raise InputError(f"{self} still has a None; call resolve with the encoders' specs first")
        assert self.flows and self.fps and self.step
        seconds = self.flows / self.fps
        return seconds, max(seconds, seconds - 0.5 / self.fps + self.step), self.step

    def _starts(self, source: Source, span: Span, seconds: float, reach: float) -> tuple[np.ndarray, np.ndarray]:
        """Ranges of window starts (K + 1,), at most a motion hop wide, and in which of them (K,) something moves."""
        low, high = span.start, max(span.start, span.end - reach)
        inner = np.arange(math.floor(low / MOTION_HOP) + 1, math.ceil(high / MOTION_HOP)) * MOTION_HOP
        edges = np.unique(np.concatenate(([low], inner, [high])))
        middles = (edges[1:] + edges[:-1]) / 2
        if not source.motion:
            return edges, np.ones(len(middles), dtype=bool)
        hops = np.arange(len(source.motion) + 1) * MOTION_HOP
        moved = np.concatenate(([0.0], np.cumsum(source.motion))) * MOTION_HOP
        levels = (np.interp(middles + seconds, hops, moved) - np.interp(middles, hops, moved)) / seconds
        return edges, levels >= self.min_motion


class PicturesAndFlow(Objective):
    """Match pictures with their optical flow: as wholes ("instance"), or cell by cell ("pixel").

    Args:
        encoders: `video` and `flow`.
        views: the cuts; None in them is filled in from the encoders.
        form: "instance" or "pixel". In "pixel" the flow encoder learns by the same loss from its own cells, which is easy and tells nothing about
            pictures; no metric but `loss/flow` counts it.
        dim: of the joint space.
        hidden: width of a hidden layer in the projections; 0: linear.
        temperature: of the softmax over cosines.
        sigma: of "pixel": how far apart two flow vectors count as different, in 64ths of the flow's side for one step.
        cells: of "pixel": how many cells of each picture are compared with one another.
        frame_augment: applied to the pictures in training. It may not mirror them, nor in "pixel" crop them: the flow would not follow.

    `accuracy` of "instance" is over the batch, the mean of both directions. Of "pixel": of three cells p, q, r of a picture of which q clearly moves
    more like p than r does, how often is q's embedding nearer to p's; chance is 0.5, which a picture without differing motion counts.
    """

    roles: ClassVar[Mapping[str, tuple[Modality, ...]]] = {"video": ("frame", "video"), "flow": ("flow",)}

    def __init__(
        self,
        *,
        encoders: Mapping[str, Encoder],
        views: FlowViews = FlowViews(),
        form: Literal["instance", "pixel"] = "instance",
        dim: int = 128,
        hidden: int = 0,
        temperature: float = 0.07,
        sigma: float = 0.5,
        cells: int = 64,
        frame_augment: FrameAugment = FrameAugment(flip=0.0),
    ) -> None:
        super().__init__()
        if temperature <= 0.0 or sigma <= 0.0 or cells < 3:
            raise InputError(
                f"rgb_flow: temperature {temperature}, sigma {sigma}, cells {cells}; temperature and sigma must be above 0, cells at least 3"
            )
        if isinstance(frame_augment, FrameAugment) and (frame_augment.flip or (form == "pixel" and frame_augment.crop < 1.0)):
            raise InputError(
                f"rgb_flow: frame_augment has flip {frame_augment.flip} and crop {frame_augment.crop}, but the flow is neither mirrored nor "
                "cropped with the pictures; set flip to 0, and with form pixel crop to 1 (views.crop crops both alike)"
            )
        self.views = views.resolve(encoders["video"].spec, encoders["flow"].spec)
        self.form, self.cells = form, cells
        self.sigma = sigma * float(self.views.flow_size or 64) / 64.0  # pixels
        self.video_head = Projection(encoders["video"].dim, dim, hidden)
        self.flow_head = Projection(encoders["flow"].dim, dim, hidden)
        self.temperature = Temperature(temperature)
        self.frame_augment = frame_augment

    def forward(self, batch: Batch, bank: EncoderBank) -> Loss:
        """The loss of the form chosen. Needs `video` (n, T, 3, H, W), `flow` (n, T', 2, H', W'), `source` (n,)."""
        video = bank.encode("video", batch["video"], self.frame_augment if self.training else None)
        flow = bank.encode("flow", batch["flow"])
        return self._pixel(video, flow, batch) if self.form == "pixel" else self._instance(video, flow, batch)

    def judge(self, batch: Batch, bank: EncoderBank) -> Mapping[str, Judged]:
        """Of "instance": `accuracy`, is the own flow nearer than another clip's (both directions, mean over the others), and `recall@1` among
        the batch. Of "pixel": `accuracy` as in training, beside that of the next other source's picture (cells near one another, or both at
        the border, move alike in any film), and `gain`, how much more the own picture tells."""
        video = bank.encode("video", batch["video"])
        if self.form == "pixel":
            return self._judge_pixel(video, batch)
        picture_nD, flow_nD = self.video_head(video.pooled), self.flow_head(bank.encode("flow", batch["flow"]).pooled)
        cosines = picture_nD @ flow_nD.T
        mine = torch.arange(len(cosines), device=cosines.device)
        rivals = batch["source"][:, None] != batch["source"]
        both = torch.stack([cosines, cosines.T])
        ahead = cosines.diagonal()[None, :, None] - both
        nearer = torch.where(ahead.abs() <= TIE, 0.5, (ahead > 0).to(cosines.dtype))
        right = (row_mean(nearer[0], rivals) + row_mean(nearer[1], rivals)) / 2
        first = (hits(both[0], mine, rivals) + hits(both[1], mine, rivals)) / 2
        chance = (1.0 / (1.0 + rivals.sum(dim=1))).mean().item()
        return {"accuracy": Judged(torch.where(rivals.any(dim=1), right, 0.5), 0.5), "recall@1": Judged(first, chance)}

    def _judge_pixel(self, video: Features, batch: Batch) -> Mapping[str, Judged]:
        own = self._agreement(video, batch["flow"])
        other, found = next_stranger(batch["source"])
        if not bool(found.all()):
            return {"accuracy": Judged(own, 0.5)}
        strange = self._agreement(video.rows(other), batch["flow"])
        return {"accuracy": Judged(own, strange.mean().item()), "gain": Judged(own - strange, 0.0)}

    def _agreement(self, video: Features, flow: Tensor) -> Tensor:
        pictures, flows = draw_cells(video.grid, flow, self.cells)
        return agreement(self.video_head(pictures), flows, sigma=self.sigma)

    def joint(self, batch: Batch, bank: EncoderBank) -> Mapping[str, Tensor]:
        """Unit-length embeddings (n, D) of "video" and "flow"; nothing in "pixel", where whole clips are not compared."""
        if self.form == "pixel":
            return {}
        pooled = {role: bank.encode(role, batch[role]).pooled for role in self.roles}
        return {"video": self.video_head(pooled["video"]), "flow": self.flow_head(pooled["flow"])}

    def embed(self, role: str, features: Features) -> Tensor:
        """Unit-length embeddings (N, D) of pictures ("video") or their motion ("flow"). Raises `InputError` in "pixel"."""
        if self.form == "pixel":
            raise InputError('rgb_flow with form "pixel" compares cells of one picture, not whole clips; train form "instance"')
        return (self.video_head if role == "video" else self.flow_head)(features.pooled)

    def _instance(self, video: Features, flow: Features, batch: Batch) -> Loss:
        picture_nD, flow_nD = self.video_head(video.pooled), self.flow_head(flow.pooled)
        picture_BD, flow_BD, source_B = gather_rows(picture_nD), gather_rows(flow_nD), gather_rows(batch["source"])
        mine = own_rows(len(picture_nD), source_B.device)
        rivals = batch["source"][:, None] != source_B
        with torch.autocast(picture_nD.device.type, enabled=False):
            to_flow, to_picture = picture_nD @ flow_BD.T, flow_nD @ picture_BD.T
        temperature = self.temperature()
        losses = info_nce(to_flow / temperature, mine, rivals) + info_nce(to_picture / temperature, mine, rivals)
        right = hits(to_flow.detach(), mine, rivals) + hits(to_picture.detach(), mine, rivals)
        candidates = 1.0 + rivals.sum(dim=1)
        return Loss(
            losses.mean() / 2,
            {
                "accuracy": right.mean() / 2,
                "accuracy/chance": (1.0 / candidates).mean(),
                "loss/uninformed": candidates.log().mean(),
                "cosine/positive": to_flow.detach().gather(1, mine[:, None]).mean(),
                "cosine/negative": masked_mean(to_flow.detach(), rivals),
                "spread/video": spread(picture_nD),
                "spread/flow": spread(flow_nD),
            },
        )

    def _pixel(self, video: Features, flow: Features, batch: Batch) -> Loss:
        pictures, flows = draw_cells(video.grid, batch["flow"], self.cells)
        embedded = self.video_head(pictures)
        of_pictures = cross_pixel(embedded, flows, sigma=self.sigma, temperature=self.temperature())
        fields, their_flows = draw_cells(flow.grid, batch["flow"], self.cells)
        of_flow = cross_pixel(self.flow_head(fields), their_flows, sigma=self.sigma, temperature=self.temperature())
        loss, loss_flow = _mean_of_moving(of_pictures), _mean_of_moving(of_flow)
        moving = of_pictures.moving
        unit = embedded.detach().flatten(0, 2)
        return Loss(
            loss + loss_flow,
            {
                "accuracy": agreement(embedded.detach(), flows, sigma=self.sigma).mean(),
                "accuracy/chance": torch.full_like(loss.detach(), 0.5),
                "loss/pictures": loss.detach(),
                "loss/flow": loss_flow.detach(),
                "loss/uninformed": torch.full_like(
                    loss.detach(), uninformed(embedded.shape[2])
                ),  # of the pictures alone, as is the floor
                "loss/floor": masked_mean(of_pictures.floor, moving),
                "share/moving": moving.to(loss.dtype).mean(),
                "spread/video": spread(unit),
            },
        )


def _mean_of_moving(found: CrossPixel) -> Tensor:
    """The mean loss of all ranks' pictures in which something moves, as this rank's share of it; 0 where there is none."""
    losses, everyone = torch.where(found.moving, found.loss, 0.0), gather_rows(found.moving)
    return losses.sum() * (len(everyone) / len(losses)) / everyone.sum().clamp(min=1)
