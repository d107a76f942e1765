"""Schedules and terms of the tokenizer's loss."""

from __future__ import annotations

import pytest
import torch

from nemo_cosmos.assets import asset_path
from nemo_cosmos.errors import AssetError, ConfigError, NumericsError
from nemo_cosmos.models.tokenizer.losses import (
    COSMOS_LOSSES,
    LAYER_WEIGHTS,
    LossConfig,
    LossSchedule,
    TokenizerLosses,
    feature_distance,
    flow_loss,
    gram_distance,
)
from nemo_cosmos.perception.lpips.vgg import load_vgg16_features

ALL_TERMS = LossConfig(
    perceptual=LossSchedule((0.1,)), gram=LossSchedule((0.06,)), flow=LossSchedule((0.01,))
)


@pytest.fixture(scope="module")
def features():
    try:
        asset_path("lpips_vgg16")
    except AssetError as error:
        pytest.skip(f"the VGG16 weights are unavailable: {error}")
    return load_vgg16_features()


@pytest.fixture
def with_features(features, monkeypatch):
    monkeypatch.setattr("nemo_cosmos.models.tokenizer.losses.load_vgg16_features", lambda: features)


def textured_video(num_frames: int, size: int = 32, shift: int = 2) -> torch.Tensor:
    """A smooth random texture that moves right by ``shift`` pixels a frame."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(1, 3, 1, size // 4, size, generator=generator)
    texture = torch.nn.functional.interpolate(noise, (1, size, 4 * size), mode="trilinear")
    frames = [texture[..., 2 * size - shift * t :][..., :size] for t in range(num_frames)]
    return torch.cat(frames, dim=2) * 2 - 1


def test_schedule_changes_at_its_boundaries():
    schedule = LossSchedule((0.0, 1.0, 2.0), (10, 20))
    assert [schedule.at(step) for step in (0, 9, 10, 19, 20, 10**9)] == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize(("values", "boundaries"), [((1.0,), (5,)), ((1.0, 2.0, 3.0), (9, 3))])
def test_impossible_schedules_are_refused(values, boundaries):
    with pytest.raises(ConfigError, match="ascending"):
        LossSchedule(values, boundaries)


def test_reference_weights():
    weights = [
        (COSMOS_LOSSES.perceptual.at(s), COSMOS_LOSSES.gram.at(s), COSMOS_LOSSES.flow.at(s))
        for s in (0, 250_000, 500_000)
    ]
    assert weights == [(0.1, 0.0, 0.0), (0.1, 0.0, 0.01), (0.073, 0.062, 0.01)]
    assert LAYER_WEIGHTS == (1 / 2.6, 1 / 4.8, 1 / 3.7, 1 / 5.6, 10 / 1.5)


def test_color_is_the_mean_absolute_difference():
    target = torch.zeros(1, 3, 5, 16, 16)
    terms = TokenizerLosses(LossConfig(color=LossSchedule((2.0,))))(target + 0.25, target, step=0)
    assert terms.keys() == {"color"}
    assert terms["color"].item() == pytest.approx(0.5)


def test_squared_is_the_mean_squared_difference_and_favours_small_strong_errors():
    target = torch.zeros(1, 3, 5, 16, 16)
    spot, haze = target.clone(), target + 1 / 256
    spot[..., 3, 4] = 1.0
    config = LossConfig(squared=LossSchedule((4.0,)))
    of_spot, of_haze = (TokenizerLosses(config)(x, target, step=0) for x in (spot, haze))
    assert of_spot["color"].item() == pytest.approx(of_haze["color"].item()) == 1 / 256
    assert of_spot["squared"].item() == pytest.approx(4 / 256)
    assert of_haze["squared"].item() == pytest.approx(4 / 256**2)


def test_every_term_is_zero_for_a_perfect_reconstruction_and_has_a_gradient(with_features):
    losses = TokenizerLosses(ALL_TERMS)
    target = textured_video(3)
    perfect = losses(target, target, step=0)
    assert perfect.keys() == {"color", "perceptual", "gram", "flow"}
    assert all(value.item() == pytest.approx(0, abs=1e-7) for value in perfect.values())
    noise = 0.2 * torch.randn(target.shape, generator=torch.Generator().manual_seed(1))
    for name, value in losses(target + noise, target, step=0).items():
        assert value.item() > 1e-6, name
    reconstruction = (target + noise).requires_grad_()
    sum(losses(reconstruction, target, step=0).values()).backward()
    assert reconstruction.grad.isfinite().all() and (reconstruction.grad != 0).any()


def test_images_have_no_flow_term(with_features):
    image = textured_video(1)
    assert TokenizerLosses(ALL_TERMS)(image, image, step=0).keys() == {
        "color",
        "perceptual",
        "gram",
    }
    assert flow_loss(image, image).item() == 0


def test_vgg_sees_the_drawn_frames_only_and_the_same_on_resume(with_features):
    config = LossConfig(perceptual=LossSchedule((1.0,)), vgg_frames=2)
    target = textured_video(5)
    reconstruction = torch.zeros_like(target).requires_grad_()
    TokenizerLosses(config)(reconstruction, target, step=7)["perceptual"].backward()
    seen = reconstruction.grad.abs().amax((0, 1, 3, 4)) > 0
    assert seen.sum() == 2
    values = [TokenizerLosses(config)(target * 0.5, target, step=7) for _ in range(2)]
    assert values[0]["perceptual"] == values[1]["perceptual"]
    others = [TokenizerLosses(config)(target * 0.5, target, step=s)["perceptual"] for s in range(4)]
    assert len({value.item() for value in others}) > 1


def test_lpips_kind_uses_the_heads(with_features, features):
    config = LossConfig(perceptual=LossSchedule((1.0,)), perceptual_kind="lpips")
    target = textured_video(1)
    term = TokenizerLosses(config)(target * 0.5, target, step=0)["perceptual"]
    frames = target[:, :, 0]
    expected = features.lpips(features(frames * 0.5), features(frames)).mean()
    torch.testing.assert_close(term, expected)


def test_feature_and_gram_distances_by_hand():
    zeros = [torch.zeros(2, 2, 1, 1)] * 5
    ones = [torch.ones(2, 2, 1, 1)] * 5
    assert feature_distance(ones, zeros).item() == pytest.approx(sum(LAYER_WEIGHTS))
    assert gram_distance(ones, zeros, batch_size=1).item() == pytest.approx(sum(LAYER_WEIGHTS))


def test_flow_follows_the_motion():
    target = textured_video(4, size=64)
    moving_error = textured_video(4, size=64, shift=2) * 0.2  # travels with the texture
    flicker = moving_error * torch.tensor([1.0, -1.0, 1.0, -1.0]).view(1, 1, 4, 1, 1)
    steady = flow_loss(target + moving_error, target)
    flickering = flow_loss(target + flicker, target)
    assert steady < 0.3 * flickering


def test_a_diverged_reconstruction_is_an_error():
    target = torch.zeros(1, 3, 1, 16, 16)
    with pytest.raises(NumericsError, match="'color' loss of the tokenizer is nan at step 12"):
        TokenizerLosses(LossConfig())(target * torch.nan, target, step=12)
