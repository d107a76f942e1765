"""What steers a diffusion world model: given frames, text and guidance.

**Video2World** (Cosmos paper, section 5.1.3). Some first latent frames are given. The network sees
them in place of noise, lightly corrupted with ``augment_sigma`` so that it tolerates imperfect
inputs, and one more channel marks them. They are excluded from the loss; in sampling, the estimate
there is replaced by the given frames. (The reference forces the network output by reversing the
preconditioning, which is the same equation solved for F.) Once the sampler's noise is below the
augmentation's, the given frames are denoised along with the rest.

**Guidance** (Ho and Salimans, arXiv 2207.12598), in the Cosmos convention:
``x0 = cond + g (cond - uncond)``, so that g = 0 is none. A control may have a guidance of its own,
which adds ``c (cond - without_control)``: one that a model hears, but too faintly, is amplified.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from nemo_cosmos.errors import ConfigError
from nemo_cosmos.models.diffusion.process.edm import broadcast_sigma, scaling


@dataclass(frozen=True)
class ConditioningConfig:
    """How conditions are drawn in training; the defaults are those of the published models.

    Attributes:
        max_condition_latents: largest number of first latent frames that are given in training
            (``first_random_n``). 0 makes a Text2World model, which has no mask channel.
        min_condition_latents: smallest number of first latent frames that are given in training.
        augment_log_mean: mean of ln(augment sigma) in training.
        augment_log_std: standard deviation of ln(augment sigma) in training.
        text_dropout: share of samples that are trained without their text.
        frame_dropout: share of samples whose given frames and mask are zeroed in training
            (``zero_condition_region_condition_mask``), for guidance on the frames.
        control_dropout: share of samples that are trained without their control.
        predicts_change: whether frames that are not given are learnt as their change since the
            first one; see :mod:`nemo_cosmos.models.diffusion.process.change`.
    """

    max_condition_latents: int = 0
    min_condition_latents: int = 0
    augment_log_mean: float = -3.0
    augment_log_std: float = 2.0
    text_dropout: float = 0.2
    frame_dropout: float = 0.0
    control_dropout: float = 0.0
    predicts_change: bool = False

    def __post_init__(self) -> None:
        if self.max_condition_latents < 0:
            raise ConfigError(
                f"max_condition_latents is {self.max_condition_latents}; it must be 0 "
                "(Text2World) or more."
            )
        if not 0 <= self.min_condition_latents <= self.max_condition_latents:
            raise ConfigError(
                f"min_condition_latents is {self.min_condition_latents}; it must be from 0 to "
                f"max_condition_latents, {self.max_condition_latents}."
            )
        if self.predicts_change and not self.takes_frames:
            raise ConfigError(
                "predicts_change is set, but max_condition_latents is 0: a model that is given no "
                "frame has nothing that could change. Use a Video2World model, or leave it out."
            )
        for name in ("text_dropout", "frame_dropout", "control_dropout"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise ConfigError(f"{name} is {value}; it is a share, from 0 to 1.")

    @property
    def takes_frames(self) -> bool:
        """Whether the network has the mask channel for given frames (Video2World)."""
        return self.max_condition_latents > 0


@dataclass(frozen=True)
class ViewConditioning:
    """What is drawn in training of the views of a sample, where it has several.

    Attributes:
        max_given: largest number of views that are given as a whole, the others being generated
            (one to many). Which ones is drawn, too.
        name_dropout: share of views whose names are hidden, so that the network knows a view that
            it has no name for by its camera.
    """

    max_given: int = 0
    name_dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.max_given < 0:
            raise ConfigError(
                f"views.max_given is {self.max_given}; it is a number of views, 0 or more."
            )
        if not 0 <= self.name_dropout <= 1:
            raise ConfigError(
                f"views.name_dropout is {self.name_dropout}; it is a share, from 0 to 1."
            )


@dataclass(frozen=True)
class FrameCondition:
    """Given latent frames, and how the network sees them.

    Attributes:
        x0_BCTHW: clean latents, scaled to sigma_data; only the given frames are read.
        given_B1T11: 1 at given frames, which are replaced in the input and kept in the output.
        mask_B1T11: the mask channel; 0 everywhere when the condition is dropped.
        noise_BCTHW: standard normal noise of the augmentation.
        augment_sigma_B: noise level of the augmentation.
    """

    x0_BCTHW: Tensor
    given_B1T11: Tensor
    mask_B1T11: Tensor
    noise_BCTHW: Tensor
    augment_sigma_B: Tensor

    @classmethod
    def first_frames(
        cls,
        x0_BCTHW: Tensor,
        num_given_B: Tensor,
        noise_BCTHW: Tensor,
        augment_sigma_B: Tensor,
        visible_B: Tensor | None = None,
        first_frame: int = 0,
    ) -> FrameCondition:
        """Give the first ``num_given_B`` latent frames of each sample.

        Args:
            x0_BCTHW: clean latents.
            num_given_B: number of given latent frames, one a sample; 0 gives none.
            noise_BCTHW: standard normal noise.
            augment_sigma_B: noise level of the augmentation.
            visible_B: 0 where the given frames are hidden from the network; None shows all.
            first_frame: number of the latents' first frame, where they are a part of the video.
        """
        frame_T = first_frame + torch.arange(x0_BCTHW.shape[2], device=x0_BCTHW.device)
        given_BT = frame_T[None] < num_given_B[:, None]
        return cls.frames(x0_BCTHW, given_BT, noise_BCTHW, augment_sigma_B, visible_B)

    @classmethod
    def frames(
        cls,
        x0_BCTHW: Tensor,
        given_BT: Tensor,
        noise_BCTHW: Tensor,
        augment_sigma_B: Tensor,
        visible_B: Tensor | None = None,
    ) -> FrameCondition:
        """Give any latent frames.

        Args:
            x0_BCTHW: clean latents.
            given_BT: whether each latent frame is given.
            noise_BCTHW: standard normal noise.
            augment_sigma_B: noise level of the augmentation.
            visible_B: 0 where the given frames are hidden from the network; None shows all.
        """
        given_B1T11 = given_BT.to(x0_BCTHW.dtype)[:, None, :, None, None]
        visible = 1.0 if visible_B is None else broadcast_sigma(visible_B.to(x0_BCTHW.dtype))
        return cls(x0_BCTHW, given_B1T11, given_B1T11 * visible, noise_BCTHW, augment_sigma_B)

    def hidden(self) -> FrameCondition:
        """Return the condition for the unconditional branch of guidance on frames."""
        return replace(self, mask_B1T11=torch.zeros_like(self.mask_B1T11))

    def at(self, sigma_B: Tensor) -> FrameCondition:
        """Return the condition at a sampling step: none once sigma is down to the augmentation."""
        cleaner_B = (self.augment_sigma_B < sigma_B).to(self.given_B1T11.dtype)
        return replace(self, given_B1T11=self.given_B1T11 * broadcast_sigma(cleaner_B))

    def compose(self, noisy_BCTHW: Tensor, sigma: Tensor, sigma_data: float) -> Tensor:
        """Put the augmented given frames in the place of noise.

        The network multiplies its input by c_in(sigma); the given frames carry the augmentation's
        noise, so they are rescaled to leave c_in(augment_sigma) times them there.

        Args:
            noisy_BCTHW: the sample at noise level ``sigma``.
            sigma: (B,) or (B,T).
            sigma_data: standard deviation of the data.
        """
        augmented = self.x0_BCTHW + broadcast_sigma(self.augment_sigma_B) * self.noise_BCTHW
        c_in_ratio = (
            scaling(self.augment_sigma_B, sigma_data).c_in / scaling(sigma, sigma_data).c_in
        )
        shown = self.mask_B1T11 * augmented * c_in_ratio
        return self.given_B1T11 * shown + (1 - self.given_B1T11) * noisy_BCTHW

    def keep(self, x0_pred_BCTHW: Tensor) -> Tensor:
        """Replace the estimate at given frames by the given frames."""
        return self.given_B1T11 * self.x0_BCTHW + (1 - self.given_B1T11) * x0_pred_BCTHW

    def mask_B1THW(self) -> Tensor:
        """Return the mask channel, spread over the latent's rows and columns."""
        height, width = self.x0_BCTHW.shape[-2:]
        return self.mask_B1T11.expand(-1, -1, -1, height, width)


def given_frames(num_frames: int, num_given_B: Tensor, given_views_BV: Tensor) -> Tensor:
    """Return which latent frames are given (B, T): the first of each view, and whole views.

    Args:
        num_frames: latent frames of all views together.
        num_given_B: number of given first latent frames of each view.
        given_views_BV: 1 at views that are given as a whole.
    """
    length = num_frames // given_views_BV.shape[1]
    step_T = torch.arange(num_frames, device=num_given_B.device) % length
    first_BT = step_T[None] < num_given_B[:, None]
    return first_BT | (given_views_BV > 0).repeat_interleave(length, dim=1)


def guide(cond: Tensor, *contrasts: tuple[float, Tensor]) -> Tensor:
    """Push the conditional estimate away from others, each with a strength of its own.

    Args:
        cond: the estimate under all conditions.
        contrasts: strength and estimate of each branch that lacks some of them.
    """
    guided = cond
    for strength, away in contrasts:
        guided = guided + strength * (cond - away)
    return guided


def augment_sigma_for_chunk(chunk: int) -> float:
    """Return the augmentation of the given frames in the n-th chunk of a long video.

    The first chunk continues real frames; the later ones continue generated frames, whose flaws
    more noise hides. Past 0.5 the given frames only steer the layout.
    """
    return (0.001, 0.2)[chunk] if chunk < 2 else 0.5
