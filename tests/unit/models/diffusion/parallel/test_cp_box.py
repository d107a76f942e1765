"""Boxes of a latent video tile it, whatever its size and the number of processes."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nemo_cosmos.errors import ConfigError
from nemo_cosmos.models.diffusion.network.control_embedding import ControlEmbedding
from nemo_cosmos.models.diffusion.parallel.cp_box import LatentBox, cuts_of
from nemo_cosmos.models.diffusion.process.conditioning import ConditioningConfig, ViewConditioning
from nemo_cosmos.models.diffusion.process.config import DiffusionConfig
from nemo_cosmos.models.diffusion.process.edm import EDMConfig
from nemo_cosmos.models.diffusion.process.training_step import (
    TrainingStep,
    cut_batch,
    prepare_step,
    whole_latent_shape,
)

sizes = st.integers(1, 12)


@given(st.tuples(sizes, sizes, sizes), st.integers(1, 24))
def test_boxes_exist_exactly_where_the_tokens_divide(
    grid: tuple[int, int, int], num_parts: int
) -> None:
    if math.prod(grid) % num_parts:
        with pytest.raises(ConfigError, match="does not divide over"):
            cuts_of(grid, num_parts)
    else:
        cuts = cuts_of(grid, num_parts)
        assert math.prod(cuts) == num_parts
        assert all(size % cut == 0 for size, cut in zip(grid, cuts, strict=True))


@pytest.mark.parametrize(("whole", "num_parts"), [((5, 6, 4), 6), ((4, 4, 4), 8), ((1, 4, 6), 3)])
def test_boxes_tile_the_latent(whole: tuple[int, int, int], num_parts: int) -> None:
    x = torch.arange(math.prod(whole)).reshape(1, 1, *whole)
    windows = [LatentBox.of(whole, (1, 2, 2), num_parts, part) for part in range(num_parts)]
    seen = torch.cat([window.cut(x).flatten() for window in windows])
    assert sorted(seen.tolist()) == list(range(math.prod(whole)))
    for window in windows:
        time, height, width = window.start_thw
        assert window.cut(x)[0, 0, 0, 0, 0] == x[0, 0, time, height, width]
        assert window.origin_thw == (time, height // 2, width // 2)


def test_an_error_names_the_legal_numbers() -> None:
    with pytest.raises(ConfigError, match=r"12 tokens \(3 x 2 x 2\).*\[1, 2, 3, 4, 6, 12\]"):
        LatentBox.of((3, 4, 4), (1, 2, 2), 5, 0)


def test_padding_is_scaled_to_the_latent_before_it_is_cut() -> None:
    mask = torch.zeros(1, 1, 32, 32)
    mask[:, :, 24:] = 1
    lower = LatentBox.of((1, 4, 4), (1, 2, 2), 2, 1)
    assert lower.start_thw == (0, 2, 0)
    assert lower.cut_padding(mask)[0, 0].tolist() == [[0.0] * 4, [1.0] * 4]


def test_a_control_is_cut_where_it_has_frames_or_positions() -> None:
    window = LatentBox.of((4, 2, 2), (1, 2, 2), 2, 1)
    frames = torch.arange(4.0)[None, :, None]
    embedding = window.cut_control(
        ControlEmbedding(
            latent_channels_BCTHW=frames[:, None, :, :, None].expand(1, 6, 4, 2, 2),
            timestep_BTD=frames,
            adaln_lora_BT3D=frames[:, :1],
            context_BLD=torch.zeros(1, 4, 3),
            tokens_BDthw=frames[:, None, :, :, None].expand(1, 3, 4, 1, 1),
        )
    )
    assert embedding.latent_channels_BCTHW[0, 0, :, 0, 0].tolist() == [2.0, 3.0]
    assert embedding.timestep_BTD.flatten().tolist() == [2.0, 3.0]
    assert embedding.adaln_lora_BT3D.shape[1] == 1, "one value for all frames stays"
    assert embedding.context_BLD.shape[1] == 4, "the context is whole everywhere"
    assert embedding.tokens_BDthw[0, 0].flatten().tolist() == [2.0, 3.0]


def test_what_is_added_to_tokens_is_cut_on_their_grid() -> None:
    tokens = torch.arange(12.0).reshape(1, 1, 1, 3, 4)
    window = LatentBox.of((1, 6, 8), (1, 2, 2), 3, 1)
    assert window.start_thw == (0, 2, 0) and window.size_thw == (1, 2, 8)
    cut = window.cut_control(ControlEmbedding(tokens_BDthw=tokens))
    assert cut.tokens_BDthw.flatten().tolist() == [4.0, 5.0, 6.0, 7.0]


@pytest.mark.parametrize(
    ("motion_weight", "predicts_change"), [(0.0, False), (3.0, False), (3.0, True)]
)
@pytest.mark.parametrize("num_parts", [2, 3, 6])
def test_the_losses_of_the_parts_add_up_to_that_of_the_whole(
    num_parts: int, motion_weight: float, predicts_change: bool
) -> None:
    """Also where a part holds given frames alone, and counts nothing."""
    config = DiffusionConfig(
        edm=EDMConfig(learned_variance=True, motion_weight=motion_weight),
        conditioning=ConditioningConfig(3, 1, predicts_change=predicts_change),
    )
    generator = torch.Generator().manual_seed(0)
    batch = {
        "latent": torch.randn(5, 16, 6, 4, 4, generator=generator),
        "t5_text_embeddings": torch.randn(5, 2, 8, generator=generator),
        "key": list("abcde"),
    }
    logvar_B = torch.linspace(-1, 1, 5)

    def loss(batch: dict) -> torch.Tensor:
        step = prepare_step(batch, batch["key"], seed=1, step=2, config=config)
        return step.loss(step.inputs.x_BCTHW.sin(), logvar_B)

    parts = []
    for part in range(num_parts):
        box = LatentBox.of((6, 4, 4), (1, 2, 2), num_parts, part)
        cut = cut_batch(batch, box, config)
        assert whole_latent_shape(cut) == (5, 16, 6, 4, 4)
        parts.append(loss(cut))
    torch.testing.assert_close(torch.stack(parts).sum(0), loss(batch), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("num_parts", [2, 3, 4, 6])
def test_the_losses_of_parts_of_several_views_add_up(num_parts: int) -> None:
    """Parts hold whole views (2), parts of two (3: 4 frames of 6), or lie within one (4, 6)."""
    config = DiffusionConfig(
        conditioning=ConditioningConfig(max_condition_latents=2, predicts_change=True),
        views=ViewConditioning(max_given=1),
    )
    generator = torch.Generator().manual_seed(0)
    batch = {
        "latent": torch.randn(5, 16, 12, 4, 4, generator=generator),
        "t5_text_embeddings": torch.randn(5, 2, 8, generator=generator),
        "key": list("abcde"),
        "views": [("front", "rear")] * 5,
    }

    def step_of(batch: dict) -> TrainingStep:
        step = prepare_step(batch, batch["key"], seed=1, step=2, config=config)
        assert isinstance(step, TrainingStep)
        return step

    whole = step_of(batch)
    assert whole.frames.given_B1T11[:, 0, 6:].amax() > 0, "frames of the second view are given"
    losses, masks = [], []
    for part in range(num_parts):
        step = step_of(
            cut_batch(batch, LatentBox.of((12, 4, 4), (1, 2, 2), num_parts, part), config)
        )
        losses.append(step.loss(step.inputs.x_BCTHW.sin()))
        masks.append(step.inputs.condition_mask_B1THW)
    expected = whole.loss(whole.inputs.x_BCTHW.sin())
    torch.testing.assert_close(torch.stack(losses).sum(0), expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(torch.cat(masks, dim=2), whole.inputs.condition_mask_B1THW)


def test_texts_of_views_go_with_the_views_of_a_part() -> None:
    text = torch.arange(6.0).view(1, 6, 1, 1)
    batch = {
        "latent": torch.zeros(1, 16, 12, 4, 4),
        "t5_text_embeddings": text,
        "views": [tuple("abcdef")],
    }

    def texts(num_parts: int, part: int) -> list[float]:
        box = LatentBox.of((12, 4, 4), (1, 2, 2), num_parts, part)
        cut = cut_batch(batch, box, DiffusionConfig())
        kept: list[float] = cut["t5_text_embeddings"].flatten().tolist()
        return kept

    assert texts(3, 1) == [2.0, 3.0] and texts(12, 5) == [2.0]
    with pytest.raises(ConfigError, match="cut 6 views of 2 latent frames into boxes of 3"):
        texts(4, 0)
