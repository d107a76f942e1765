"""One training step of the diffusion process around a network.

Nothing here needs NeMo. What is random in training (noise level, noise, which frames are given,
what is dropped) comes from :mod:`~nemo_cosmos.models.diffusion.process.step_noise`.

Shape suffixes: B batch, C channels, T latent frames, H W latent rows and columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import repeat
from typing import Any

import torch
from torch import Tensor

from nemo_cosmos.batch import LatentBatch, num_views_of
from nemo_cosmos.errors import NumericsError, SampleError
from nemo_cosmos.models.diffusion.controls import EmbedControls, mask_embedding
from nemo_cosmos.models.diffusion.network.config import DiTConfig
from nemo_cosmos.models.diffusion.network.inputs import NetworkInput
from nemo_cosmos.models.diffusion.network.packs import is_pack, split_pack
from nemo_cosmos.models.diffusion.network.views import camera_views, own_texts
from nemo_cosmos.models.diffusion.parallel.cp_box import LatentBox
from nemo_cosmos.models.diffusion.process.change import (
    base_of_change,
    changing_frames,
    first_frames,
    shown_first_frames,
)
from nemo_cosmos.models.diffusion.process.conditioning import FrameCondition, given_frames
from nemo_cosmos.models.diffusion.process.config import DiffusionConfig
from nemo_cosmos.models.diffusion.process.edm import broadcast_sigma, edm_loss, scaling
from nemo_cosmos.models.diffusion.process.motion import motion_weights, relative_motion
from nemo_cosmos.models.diffusion.process.step_noise import StepNoise, draw_step_noise


@dataclass(frozen=True)
class TrainingStep:
    """One batch made ready for the network.

    Attributes:
        inputs: the network's input.
        x0_BCTHW: the clean latents, scaled to sigma_data.
        composed_BCTHW: the noisy latents, with the given frames in their place.
        sigma_B: the noise levels.
        frames: the given frames; None for Text2World.
        config: the diffusion process.
        place_weight_BTHW: weight of each place in the loss; None counts all alike.
        loss_weight_B: weight of this rank's mean loss in that of the whole video, where ranks share
            it; the weights of all ranks add up to 1.
    """

    inputs: NetworkInput
    x0_BCTHW: Tensor
    composed_BCTHW: Tensor
    sigma_B: Tensor
    frames: FrameCondition | None
    config: DiffusionConfig
    place_weight_BTHW: Tensor | None = None
    loss_weight_B: Tensor | None = None

    @property
    def c_noise_B(self) -> Tensor:
        """What the learned variance depends on."""
        return self.inputs.c_noise

    def loss(self, output_BCTHW: Tensor, logvar_B: Tensor | None = None) -> Tensor:
        """Return loss_B from the network's output; the sum over the ranks that share the video."""
        edm = self.config.edm
        scale = scaling(self.sigma_B, edm.sigma_data)
        x0_pred = scale.c_skip * self.composed_BCTHW + scale.c_out * output_BCTHW.float()
        counted = None if self.frames is None else 1 - self.frames.given_B1T11
        loss_B = edm_loss(
            x0_pred,
            self.x0_BCTHW,
            self.sigma_B,
            edm,
            counted_B1T11=counted,
            place_weight_BTHW=self.place_weight_BTHW,
            logvar_B=logvar_B,
        )
        return loss_B if self.loss_weight_B is None else loss_B * self.loss_weight_B


def make_training_step(
    batch: LatentBatch,
    noise: StepNoise,
    config: DiffusionConfig,
    controls: EmbedControls | None = None,
    network: DiTConfig | None = None,
) -> TrainingStep:
    """Add noise to a batch and gather the network's input.

    Args:
        batch: the batch, on the network's device. Under context parallelism its latents are this
            rank's box of the video, which :func:`cut_batch` put under ``"box"``.
        noise: the randomness, on that device and of the same box.
        config: the diffusion process.
        controls: embeds the batch's signals; None for a model without controls.
        network: the network's configuration, which knows the views' names; None for one camera.
    """
    latent_BCTHW = batch["latent"].float()
    box: LatentBox | None = batch.get("box")
    frames, mask_B1THW = None, None
    whole_BCTHW = whole_latent_shape(batch)
    given_BT = given_frames(whole_BCTHW[2], noise.num_given_B, noise.given_views_BV)
    # Signals count frames of the whole video, so they are embedded whole and cut afterwards.
    if config.conditioning.predicts_change:
        first_BCTHW = _first_frames(batch)
        shown_BCTHW = shown_first_frames(first_BCTHW, given_BT, num_views_of(batch))
        batch = {**batch, "first_frames": shown_BCTHW}
    embedding = None if controls is None else controls(batch, whole_BCTHW)
    if config.conditioning.predicts_change:
        changing_BT = changing_frames(given_BT, num_views_of(batch))
        base_BCTHW = base_of_change(first_BCTHW, changing_BT, embedding)
        latent_BCTHW = latent_BCTHW - (base_BCTHW if box is None else box.cut(base_BCTHW))
    x0_BCTHW = latent_BCTHW * config.edm.sigma_data
    noisy_BCTHW = x0_BCTHW + broadcast_sigma(noise.sigma_B) * noise.noise_BCTHW
    if config.takes_frames:
        frames = FrameCondition.frames(
            x0_BCTHW,
            given_BT if box is None else box.cut_frames(given_BT),
            noise.augment_noise_BCTHW,
            noise.augment_sigma_B,
            visible_B=noise.keep_frames_B,
        )
        noisy_BCTHW = frames.compose(noisy_BCTHW, noise.sigma_B, config.edm.sigma_data)
        mask_B1THW = frames.mask_B1THW()
    if embedding is not None:
        embedding = mask_embedding(embedding, noise.keep_control_B)
        embedding = embedding if box is None else box.cut_control(embedding)
    views = None
    if network is not None:
        views = camera_views(batch, network, whole_BCTHW[2], latent_BCTHW.device)
        if views is not None:
            views = views.hide_names(noise.keep_names_BV, network)
    text = batch["t5_text_embeddings"]
    scale = scaling(noise.sigma_B, config.edm.sigma_data)
    inputs = NetworkInput(
        scale.c_in * noisy_BCTHW,
        scale.c_noise,
        # Dropped text is zeros, as padding is; in sampling, zeros stand for "no prompt".
        text * noise.keep_text_B.view(-1, *(1,) * (text.dim() - 1)),
        fps_B=batch.get("fps"),
        padding_mask_B1HW=batch.get("padding_mask"),
        condition_mask_B1THW=mask_B1THW,
        control=embedding,
        views=views,
    )
    weight_BTHW = None
    if config.edm.motion_weight:
        weight_BTHW = motion_weights(_motion_of(batch), noise.sigma_B, config.edm)
    step = TrainingStep(inputs, x0_BCTHW, noisy_BCTHW, noise.sigma_B, frames, config, weight_BTHW)
    return step if box is None else _in_box(step, box, given_BT.sum(dim=1).float())


def _in_box(step: TrainingStep, box: LatentBox, num_given_B: Tensor) -> TrainingStep:
    """Give the network its place in the video, and the loss the box's weight in the whole loss."""
    num_frames_B = torch.full_like(num_given_B, box.whole_thw[0])
    num_here_B = torch.full_like(num_given_B, box.size_thw[0])
    if step.frames is not None:  # given frames do not count
        num_frames_B = num_frames_B - num_given_B
        num_here_B = num_here_B - step.frames.given_B1T11.sum(dim=(1, 2, 3, 4))
    return replace(
        step,
        inputs=replace(step.inputs, origin_thw=box.origin_thw),
        loss_weight_B=box.loss_weight_B(num_frames_B, num_here_B),
    )


def cut_batch(batch: LatentBatch, box: LatentBox, config: DiffusionConfig) -> LatentBatch:
    """Keep this rank's box of a batch's latents and padding, and the box itself under ``"box"``.

    Of texts for each view, the views' in the box are kept.

    Args:
        batch: a batch with whole latents.
        box: this rank's part of them.
        config: the diffusion process, some of whose choices need whole latents.

    Raises:
        ConfigError: views have texts of their own, and the box holds parts of several.
    """
    cut: LatentBatch = {**batch, "box": box, "latent": box.cut(batch["latent"])}
    if config.conditioning.predicts_change:
        cut["first_frames"] = first_frames(batch["latent"], num_views_of(batch))
    if config.edm.motion_weight:
        cut["relative_motion"] = box.cut(relative_motion(batch["latent"], num_views_of(batch)))
    if batch.get("padding_mask") is not None:
        cut["padding_mask"] = box.cut_padding(batch["padding_mask"])
    text = batch["t5_text_embeddings"]
    if text.dim() == 4:
        cut["t5_text_embeddings"] = own_texts(text, box.whole_views(num_views_of(batch)))
    return cut


def _first_frames(batch: LatentBatch) -> Tensor:
    """The first frames of the whole latents, where this rank holds a box of them as otherwise."""
    if "box" in batch:
        return batch["first_frames"].float()
    return first_frames(batch["latent"].float(), num_views_of(batch))


def _motion_of(batch: LatentBatch) -> Tensor:
    """How much each place moves, where this rank holds a box of the video as where it is whole."""
    if "box" in batch:
        return batch["relative_motion"]
    return relative_motion(batch["latent"], num_views_of(batch))


def whole_latent_shape(batch: LatentBatch) -> tuple[int, ...]:
    """Shape of a batch's latents before :func:`cut_batch`."""
    batch_size, channels, *size_thw = batch["latent"].shape
    box: LatentBox | None = batch.get("box")
    return (batch_size, channels, *(size_thw if box is None else box.whole_thw))


@dataclass(frozen=True)
class PackedTrainingStep:
    """A pack made ready for the network: every sample as the batch of one that it would be alone.

    Attributes:
        samples: the pack's samples.
    """

    samples: list[TrainingStep]

    @property
    def inputs(self) -> list[NetworkInput]:
        """The network's input for each sample."""
        return [sample.inputs for sample in self.samples]

    @property
    def c_noise_B(self) -> Tensor:
        """What the learned variance depends on."""
        return torch.cat([sample.c_noise_B for sample in self.samples])

    def loss(self, outputs: Sequence[Tensor], logvar_B: Tensor | None = None) -> Tensor:
        """Return loss_B, one a sample, from the network's outputs."""
        rows = repeat(None) if logvar_B is None else logvar_B.split(1)
        return torch.cat(
            [
                sample.loss(output, row)
                for sample, output, row in zip(self.samples, outputs, rows, strict=False)
            ]
        )


def prepare_step(
    batch: LatentBatch,
    keys: Sequence[str],
    seed: int,
    step: int,
    config: DiffusionConfig,
    controls: EmbedControls | None = None,
    network: DiTConfig | None = None,
) -> TrainingStep | PackedTrainingStep:
    """Draw a batch's randomness and make it ready for the network.

    Args:
        batch: a batch, or a pack of samples of any shapes; on the network's device.
        keys: what identifies each sample among those of the step.
        seed: the run's seed.
        step: number of the optimiser's step.
        config: the diffusion process.
        controls: embeds the batch's signals; None for a model without controls.
        network: the network's configuration, which knows the views' names; None for one camera.
    """
    if is_pack(batch):
        samples = [
            prepare_step(sample, [key], seed, step, config, controls, network)
            for sample, key in zip(split_pack(batch), keys, strict=True)
        ]
        return PackedTrainingStep([one for one in samples if isinstance(one, TrainingStep)])
    noise = draw_step_noise(
        whole_latent_shape(batch),
        keys,
        seed,
        step,
        config,
        device=batch["latent"].device,
        box=batch.get("box"),
        num_views=num_views_of(batch),
    )
    return make_training_step(batch, noise, config, controls, network)


def check_batch(batch: LatentBatch) -> None:
    """Check a training batch, or every sample of a pack, before it costs a step.

    Raises:
        SampleError: latents or text embeddings are missing or have another number of axes.
        NumericsError: latents hold NaN or infinity; names the samples.
    """
    if is_pack(batch):
        for sample in split_pack(batch):
            check_batch(sample)
        return
    by_view = num_views_of(batch) > 1  # a text a view
    for name, legal in (("latent", (5,)), ("t5_text_embeddings", (3, 4) if by_view else (3,))):
        tensor: Any = batch.get(name)
        if tensor is None or tensor.dim() not in legal:
            found = "nothing" if tensor is None else f"shape {tuple(tensor.shape)}"
            raise SampleError(
                f"The batch has {found} under '{name}'; expected "
                f"{' or '.join(map(str, legal))} axes. Run "
                "'nemo-cosmos tokenize' on the shards, which writes latents and embeddings."
            )
    if all(batch.get("is_finite", [False])):  # our readers look, in their worker processes
        return
    finite_B = batch["latent"].isfinite().flatten(1).all(dim=1).tolist()
    if not all(finite_B):
        keys = sample_keys(batch, prefix="row ")
        bad = [key for key, finite in zip(keys, finite_B, strict=True) if not finite]
        raise NumericsError(
            f"NaN or infinity in the latents of {', '.join(bad)}. Expected finite numbers of about "
            "unit variance. Delete or re-make these samples with 'nemo-cosmos tokenize', and check "
            "the tokenizer's weights."
        )


def sample_keys(batch: LatentBatch, prefix: str) -> list[str]:
    """Return the keys of the batch's samples; without keys, ``prefix`` and the row's number."""
    keys = batch.get("key")
    if keys is None:
        return [f"{prefix}{row}" for row in range(len(batch["latent"]))]
    return [str(key) for key in keys]
