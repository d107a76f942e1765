"""The loss of a tokenizer's training, in stages.

Weights change at step boundaries and are data: :data:`COSMOS_LOSSES` has those of the reference's
training, :data:`POST_TRAINING_LOSSES` those of its post-training. Every term is counted once (the
reference's ``TokenizerLoss`` adds its last one twice). There is no adversarial term: the reference
names one and ships none.

Shape suffixes: B batch, N frames as a batch, C channels, T frames, H height, W width.
Source: cosmos-predict1 ``tokenizer/training/{losses,configs/base/loss.py}``; paper section 4.1.
"""

from __future__ import annotations

import bisect
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from nemo_cosmos.errors import ConfigError, NumericsError
from nemo_cosmos.perception.flow import MIN_SIDE_PX, bidirectional_flow, frame_pairs, warp
from nemo_cosmos.perception.lpips.vgg import VGG16Features, load_vgg16_features
from nemo_cosmos.platform import by_device, upload

LAYER_WEIGHTS = (1 / 2.6, 1 / 4.8, 1 / 3.7, 1 / 5.6, 10 / 1.5)
"""Weight of each VGG16 feature map, finest first."""


@dataclass(frozen=True)
class LossSchedule:
    """A weight that is constant between step boundaries.

    Attributes:
        values: weights, one more than there are boundaries.
        boundaries: first step after each value; ``values[i]`` holds below ``boundaries[i]``.
    """

    values: tuple[float, ...]
    boundaries: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if len(self.values) != len(self.boundaries) + 1 or list(self.boundaries) != sorted(
            self.boundaries
        ):
            raise ConfigError(
                f"A loss schedule has values {self.values} and boundaries {self.boundaries}; it "
                "needs ascending boundaries and exactly one value more than boundaries."
            )

    def at(self, step: int) -> float:
        """The weight at a step, counted from 0."""
        return self.values[bisect.bisect_right(self.boundaries, step)]


_OFF = LossSchedule((0.0,))


@dataclass(frozen=True)
class LossConfig:
    """Which terms a tokenizer is trained with; a term of weight 0 costs nothing.

    Attributes:
        color: weight of the mean absolute pixel difference.
        squared: weight of the mean squared pixel difference. Small things of a rare colour count
            little in the mean absolute difference, whose best guess for them is the background;
            a short training needs their large errors to count more. The reference has no such term.
        perceptual: weight of the distance of VGG16 features.
        gram: weight of the distance of their Gram matrices (texture).
        flow: weight of the error's flicker along the motion (:func:`flow_loss`).
        perceptual_kind: "features" is the reference's weighted L1 of features, "lpips" the LPIPS
            metric with its trained heads.
        vgg_frames: number of frames of each video that VGG16 sees, drawn again every step; None
            for all. Two or three make it affordable on a CPU.
    """

    color: LossSchedule = field(default=LossSchedule((1.0,)))
    squared: LossSchedule = field(default=_OFF)
    perceptual: LossSchedule = field(default=_OFF)
    gram: LossSchedule = field(default=_OFF)
    flow: LossSchedule = field(default=_OFF)
    perceptual_kind: Literal["features", "lpips"] = "features"
    vgg_frames: int | None = None


COLOR_ONLY = LossConfig()
COSMOS_LOSSES = LossConfig(
    perceptual=LossSchedule((0.1, 0.073), (500_000,)),
    gram=LossSchedule((0.0, 0.062), (500_000,)),
    flow=LossSchedule((0.0, 0.01), (250_000,)),
)
POST_TRAINING_LOSSES = LossConfig(perceptual=LossSchedule((0.1,)))


class TokenizerLosses:
    """Computes the weighted terms. VGG16 is loaded when a step first needs it.

    This is no ``nn.Module``, so that VGG16 never becomes part of the trained model's state.
    """

    def __init__(self, config: LossConfig) -> None:
        self.config = config
        self._vgg: VGG16Features | None = None

    def __call__(
        self, reconstruction_BCTHW: Tensor, target_BCTHW: Tensor, step: int
    ) -> dict[str, Tensor]:
        """Return the weighted terms by name; their sum is the loss.

        Args:
            reconstruction_BCTHW: reconstructed video, roughly in [-1, 1].
            target_BCTHW: true video in [-1, 1].
            step: global training step, which sets the weights and the frames that VGG16 sees.

        Raises:
            NumericsError: a term is NaN or infinite. On a GPU the host would wait for it; there
                the optimiser's step notices the gradients.
        """
        config = self.config
        reconstruction_BCTHW = reconstruction_BCTHW.float()
        terms: dict[str, Tensor] = {}
        if weight := config.color.at(step):
            terms["color"] = weight * (reconstruction_BCTHW - target_BCTHW).abs().mean()
        if weight := config.squared.at(step):
            terms["squared"] = weight * F.mse_loss(reconstruction_BCTHW, target_BCTHW)
        if config.perceptual.at(step) or config.gram.at(step):
            terms.update(self._vgg_terms(reconstruction_BCTHW, target_BCTHW, step))
        if (weight := config.flow.at(step)) and target_BCTHW.shape[2] > 1:
            terms["flow"] = weight * flow_loss(reconstruction_BCTHW, target_BCTHW)
        for name, value in terms.items():
            if by_device(True, False, value.device) and not value.isfinite():
                raise NumericsError(
                    f"The '{name}' loss of the tokenizer is {value.item()} at step {step}. Lower "
                    "the learning rate, clip gradients, or look for damaged videos in the data; "
                    "resume from the last checkpoint."
                )
        return terms

    def _vgg_terms(self, reconstruction: Tensor, target: Tensor, step: int) -> dict[str, Tensor]:
        config, batch_size = self.config, target.shape[0]
        frames = upload(_draw_frames(target.shape[2], config.vgg_frames, step), target.device)
        vgg = self._vgg_on(target.device)
        with torch.no_grad():
            wanted = vgg(_as_batch(target[:, :, frames]))
        features = vgg(_as_batch(reconstruction[:, :, frames]))
        terms: dict[str, Tensor] = {}
        if weight := config.perceptual.at(step):
            if config.perceptual_kind == "lpips":
                terms["perceptual"] = weight * vgg.lpips(features, wanted).mean()
            else:
                terms["perceptual"] = weight * feature_distance(features, wanted)
        if weight := config.gram.at(step):
            terms["gram"] = weight * gram_distance(features, wanted, batch_size)
        return terms

    def _vgg_on(self, device: torch.device) -> VGG16Features:
        if self._vgg is None:
            self._vgg = load_vgg16_features()
        return self._vgg.to(device)


def flow_loss(reconstruction_BCTHW: Tensor, target_BCTHW: Tensor, scale: int = 2) -> Tensor:
    """Mean absolute change of the reconstruction error along the target's motion, a scalar.

    The reference compares the optical flow of reconstruction and original by RAFT, whose weights
    no package carries. Here the flow is computed on the original alone and is not differentiated;
    it shows where each pixel of a frame was in its neighbour. The reconstruction error is carried
    along it, and its change is penalised. An error that stays the same along a path looks steady
    and costs nothing here (the colour loss sees it); one that flickers, swims or smears a moving
    edge differently in every frame costs.

    Args:
        reconstruction_BCTHW: reconstructed video in [-1, 1]; gradients flow into it.
        target_BCTHW: the original.
        scale: factor by which both are shrunk first, which saves time and steadies the flow.
    """
    if target_BCTHW.shape[2] < 2:
        return reconstruction_BCTHW.new_zeros(())
    scale = scale if min(target_BCTHW.shape[-2:]) // scale >= MIN_SIDE_PX else 1
    target = F.avg_pool3d(target_BCTHW.float(), (1, scale, scale))
    error = F.avg_pool3d(reconstruction_BCTHW.float(), (1, scale, scale)) - target
    flow_P2HW = bidirectional_flow(target)
    here, there = frame_pairs(error)
    return (here - warp(there, flow_P2HW)).abs().mean()


def feature_distance(a: list[Tensor], b: list[Tensor]) -> Tensor:
    """Mean absolute difference of each feature map, weighted and summed over the maps."""
    pairs = zip(LAYER_WEIGHTS, a, b, strict=True)
    return torch.stack([weight * (x - y).abs().mean() for weight, x, y in pairs]).sum()


def gram_distance(a: list[Tensor], b: list[Tensor], batch_size: int) -> Tensor:
    """Mean squared difference of Gram matrices over all pixels and frames of each video."""
    pairs = zip(LAYER_WEIGHTS, a, b, strict=True)
    terms = [w * (_gram(x, batch_size) - _gram(y, batch_size)).square().mean() for w, x, y in pairs]
    return torch.stack(terms).sum()


def _gram(features_NCHW: Tensor, batch_size: int) -> Tensor:
    """Which features occur together, (B,C,C), averaged over frames, height and width."""
    x_BCL = features_NCHW.unflatten(0, (batch_size, -1)).transpose(1, 2).flatten(2)
    return x_BCL @ x_BCL.transpose(1, 2) / x_BCL.shape[2]


def _draw_frames(num_frames: int, num_wanted: int | None, step: int) -> Tensor:
    """Indices of the frames that VGG16 sees: a function of the step, so that a resume agrees."""
    if num_wanted is None or num_wanted >= num_frames:
        return torch.arange(num_frames)
    generator = torch.Generator().manual_seed(step)
    return torch.randperm(num_frames, generator=generator)[:num_wanted].sort().values


def _as_batch(video_BCTHW: Tensor) -> Tensor:
    return video_BCTHW.transpose(1, 2).flatten(0, 1)
