from __future__ import annotations

import pytest
import torch

from nemo_cosmos.errors import ConfigError
from nemo_cosmos.models.diffusion.process.conditioning import (
    ConditioningConfig,
    FrameCondition,
    ViewConditioning,
    augment_sigma_for_chunk,
    given_frames,
    guide,
)
from nemo_cosmos.models.diffusion.process.edm import scaling

SIGMA_DATA = 0.5
SHAPE = (2, 4, 3, 2, 2)


@pytest.fixture
def condition() -> FrameCondition:
    generator = torch.Generator().manual_seed(0)
    return FrameCondition.first_frames(
        torch.randn(SHAPE, generator=generator),
        torch.tensor([1, 2]),
        torch.randn(SHAPE, generator=generator),
        torch.tensor([0.1, 0.3]),
    )


def test_each_sample_has_its_own_number_of_given_frames(condition: FrameCondition) -> None:
    assert condition.mask_B1THW().shape == (2, 1, 3, 2, 2)
    assert condition.mask_B1THW()[:, 0, :, 1, 1].tolist() == [[1, 0, 0], [1, 1, 0]]


def test_network_sees_the_augmented_frames_at_the_scale_of_their_own_noise(
    condition: FrameCondition,
) -> None:
    """After the network's c_in(sigma), a given frame is c_in(augment) (x0 + augment noise)."""
    noisy = torch.full(SHAPE, 7.0)
    sigma_B = torch.tensor([5.0, 20.0])
    composed = condition.compose(noisy, sigma_B, SIGMA_DATA)
    network_input = scaling(sigma_B, SIGMA_DATA).c_in * composed
    augmented = condition.x0_BCTHW + torch.tensor([0.1, 0.3]).view(2, 1, 1, 1, 1) * (
        condition.noise_BCTHW
    )
    expected = augmented / (torch.tensor([0.1, 0.3]) ** 2 + 0.25).sqrt().view(2, 1, 1, 1, 1)
    torch.testing.assert_close(network_input[1, :, :2], expected[1, :, :2])
    torch.testing.assert_close(composed[0, :, 1:], noisy[0, :, 1:])


def test_output_keeps_given_frames_and_only_those(condition: FrameCondition) -> None:
    estimate = torch.zeros(SHAPE)
    kept = condition.keep(estimate)
    assert torch.equal(kept[1, :, :2], condition.x0_BCTHW[1, :, :2])
    assert not kept[0, :, 1:].any() and not kept[1, :, 2:].any()


def test_below_the_augmentation_the_given_frames_are_denoised_too(
    condition: FrameCondition,
) -> None:
    at_step = condition.at(torch.tensor([0.2, 0.2]))
    noisy = torch.full(SHAPE, 7.0)
    composed = at_step.compose(noisy, torch.tensor([0.2, 0.2]), SIGMA_DATA)
    assert torch.equal(composed[1], noisy[1]), "augment sigma 0.3 is above 0.2"
    assert not torch.equal(composed[0, :, :1], noisy[0, :, :1]), "augment sigma 0.1 is below 0.2"
    assert torch.equal(at_step.mask_B1THW(), condition.mask_B1THW()), "the mask channel stays"
    assert torch.equal(at_step.keep(noisy)[1], noisy[1])


def test_hidden_condition_shows_zeros_and_an_empty_mask(condition: FrameCondition) -> None:
    hidden = condition.hidden()
    composed = hidden.compose(torch.full(SHAPE, 7.0), torch.tensor([5.0, 5.0]), SIGMA_DATA)
    assert not composed[1, :, :2].any() and not hidden.mask_B1THW().any()
    assert torch.equal(hidden.keep(torch.zeros(SHAPE)), condition.keep(torch.zeros(SHAPE)))


def test_invisible_samples_are_hidden_in_training() -> None:
    condition = FrameCondition.first_frames(
        torch.ones(SHAPE),
        torch.tensor([2, 2]),
        torch.zeros(SHAPE),
        torch.tensor([0.1, 0.1]),
        visible_B=torch.tensor([1.0, 0.0]),
    )
    composed = condition.compose(torch.full(SHAPE, 7.0), torch.tensor([5.0, 5.0]), SIGMA_DATA)
    assert composed[0, :, :2].all() and not composed[1, :, :2].any()
    assert condition.mask_B1THW()[1].sum() == 0


def test_guidance_zero_is_the_conditional_estimate() -> None:
    cond, uncond = torch.tensor([2.0]), torch.tensor([1.0])
    assert guide(cond, (0.0, uncond)).item() == 2
    assert guide(cond, (7.0, uncond)).item() == 9
    assert guide(cond, (7.0, uncond), (2.0, cond - 3)).item() == 15


def test_augmentation_of_a_long_video_follows_the_reference_list() -> None:
    assert [augment_sigma_for_chunk(i) for i in range(5)] == [0.001, 0.2, 0.5, 0.5, 0.5]


@pytest.mark.parametrize(
    "bad",
    [
        {"max_condition_latents": -1},
        {"min_condition_latents": 1},
        {"text_dropout": 1.5},
        {"control_dropout": -0.1},
    ],
)
def test_impossible_configuration(bad: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(bad))):
        ConditioningConfig(**bad)


def test_only_a_model_with_condition_frames_takes_frames() -> None:
    assert ConditioningConfig(max_condition_latents=2).takes_frames
    assert not ConditioningConfig().takes_frames


def test_the_first_frames_of_every_view_are_given_and_whole_views() -> None:
    given = given_frames(6, torch.tensor([1.0, 0.0]), torch.tensor([[0.0, 0.0], [0.0, 1.0]]))
    assert given.int().tolist() == [[1, 0, 0, 1, 0, 0], [0, 0, 0, 1, 1, 1]]
    one = given_frames(3, torch.tensor([2.0]), torch.zeros(1, 1))
    assert one.int().tolist() == [[1, 1, 0]]


@pytest.mark.parametrize("values", [{"max_given": -1}, {"name_dropout": 1.5}])
def test_impossible_conditions_on_views(values: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=f"views.{next(iter(values))}"):
        ViewConditioning(**values)
