"""What is random in a training step, by both sources of noise: the host's, and a GPU's counter."""

from __future__ import annotations

import hashlib
import itertools
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from nemo_cosmos.models.diffusion.parallel.cp_box import LatentBox
from nemo_cosmos.models.diffusion.process.conditioning import ConditioningConfig, ViewConditioning
from nemo_cosmos.models.diffusion.process.config import DiffusionConfig
from nemo_cosmos.models.diffusion.process.step_noise import (
    CPU,
    NoiseSource,
    counter_noise,
    draw_step_noise,
    host_noise,
)

SHAPE = (4, 16, 3, 4, 4)
KEYS = ["a", "b", "c", "d"]
VIDEO2WORLD = DiffusionConfig(conditioning=ConditioningConfig(max_condition_latents=2))
both_sources = pytest.mark.parametrize("source", [host_noise, counter_noise])


@both_sources
def test_draws_depend_on_the_sample_and_the_step_not_on_the_batch(source: NoiseSource) -> None:
    together = draw_step_noise(SHAPE, KEYS, 1, 10, VIDEO2WORLD, source=source)
    alone = draw_step_noise((1, *SHAPE[1:]), ["c"], 1, 10, VIDEO2WORLD, source=source)
    for name in together.__dataclass_fields__:
        assert torch.equal(getattr(together, name)[2:3], getattr(alone, name)), name
    for other in (
        draw_step_noise(SHAPE, KEYS, 1, 11, VIDEO2WORLD, source=source),
        draw_step_noise(SHAPE, KEYS, 2, 10, VIDEO2WORLD, source=source),
    ):
        assert not torch.equal(together.noise_BCTHW, other.noise_BCTHW)
    assert len(set(together.sigma_B.tolist())) == 4


@both_sources
def test_draws_have_the_published_distribution(source: NoiseSource) -> None:
    config = DiffusionConfig(
        conditioning=ConditioningConfig(
            max_condition_latents=2, text_dropout=0.2, frame_dropout=0.5, control_dropout=0.1
        )
    )
    shape = (1500, 1, 3, 2, 2)
    keys = [str(i) for i in range(shape[0])]
    drawn = draw_step_noise(shape, keys, 0, 0, config, source=source)
    given, counts = drawn.num_given_B.unique(return_counts=True)
    assert given.tolist() == [0, 1, 2]
    assert (counts / shape[0]).tolist() == pytest.approx([1 / 3] * 3, abs=0.04)
    assert drawn.augment_sigma_B.log().mean().item() == pytest.approx(-3, abs=0.15)
    assert drawn.augment_sigma_B.log().std().item() == pytest.approx(2, abs=0.1)
    assert drawn.keep_text_B.mean().item() == pytest.approx(0.8, abs=0.03)
    assert drawn.keep_frames_B.mean().item() == pytest.approx(0.5, abs=0.03)
    assert drawn.keep_control_B.mean().item() == pytest.approx(0.9, abs=0.03)
    assert drawn.noise_BCTHW.std().item() == pytest.approx(1, abs=0.02)
    assert drawn.augment_noise_BCTHW[:, :, :2].std().item() == pytest.approx(1, abs=0.02)


def test_some_first_frames_can_be_given_to_every_sample() -> None:
    config = DiffusionConfig(
        conditioning=ConditioningConfig(max_condition_latents=2, min_condition_latents=1)
    )
    shape = (200, 1, 3, 2, 2)
    drawn = draw_step_noise(shape, [str(i) for i in range(200)], 0, 0, config)
    assert drawn.num_given_B.unique().tolist() == [1, 2]


@pytest.mark.parametrize("num_frames", [1, 2])
def test_at_least_one_frame_is_left_to_predict(num_frames: int) -> None:
    shape = (200, 1, num_frames, 2, 2)
    drawn = draw_step_noise(shape, [str(i) for i in range(200)], 0, 0, VIDEO2WORLD)
    assert drawn.num_given_B.max() == num_frames - 1


def test_the_host_draws_the_numbers_of_every_earlier_run() -> None:
    """In this order, from this seed: a resumed run must meet the noise that it would have met."""
    drawn = draw_step_noise(SHAPE, KEYS, 7, 3, VIDEO2WORLD)
    for row, key in enumerate(KEYS):
        digest = hashlib.blake2b(f"7/3/{key}".encode(), digest_size=8).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)
        normal, uniform = (
            torch.randn(2, generator=generator),
            torch.rand(4, generator=generator),
        )
        assert drawn.sigma_B[row] == normal[0].exp()
        assert drawn.augment_sigma_B[row] == (-3.0 + 2.0 * normal[1]).exp()
        assert drawn.num_given_B[row] == (uniform[0] * 3).floor()
        assert drawn.keep_text_B[row] == float(uniform[1] >= 0.2)
        noise = torch.randn(16, 3, 4, 4, generator=generator)
        assert torch.equal(drawn.noise_BCTHW[row], noise)
        given = torch.randn(16, 2, 4, 4, generator=generator)
        assert torch.equal(drawn.augment_noise_BCTHW[row], F.pad(given, (0, 0, 0, 0, 0, 1)))


def test_both_sources_share_noise_levels_and_conditions() -> None:
    host = draw_step_noise(SHAPE, KEYS, 7, 3, VIDEO2WORLD, source=host_noise)
    counter = draw_step_noise(SHAPE, KEYS, 7, 3, VIDEO2WORLD, source=counter_noise)
    for name in host.__dataclass_fields__:
        is_noise = name.endswith("noise_BCTHW")
        assert torch.equal(getattr(host, name), getattr(counter, name)) != is_noise, name


def test_what_draws_follows_the_device() -> None:
    assert torch.equal(
        draw_step_noise(SHAPE, KEYS, 7, 3, VIDEO2WORLD).noise_BCTHW,
        draw_step_noise(SHAPE, KEYS, 7, 3, VIDEO2WORLD, device=CPU, source=host_noise).noise_BCTHW,
    )
    # A device that computes nothing takes the path of a GPU: no host noise is copied to it.
    drawn = draw_step_noise(SHAPE, KEYS, 7, 3, VIDEO2WORLD, device=torch.device("meta"))
    assert {getattr(drawn, name).device.type for name in drawn.__dataclass_fields__} == {"meta"}
    assert drawn.noise_BCTHW.shape == SHAPE and drawn.noise_BCTHW.dtype == torch.float32


@both_sources
@pytest.mark.parametrize("num_parts", [2, 3, 4, 6])
def test_ranks_draw_their_boxes_of_one_noise(source: NoiseSource, num_parts: int) -> None:
    """Also a rank whose frames are none of the given ones."""
    shape = (1, 5, 6, 4, 4)
    whole = draw_step_noise(shape, ["a"], 7, 3, VIDEO2WORLD, source=source)
    for part in range(num_parts):
        box = LatentBox.of(shape[2:], (1, 2, 2), num_parts, part)
        here = draw_step_noise(shape, ["a"], 7, 3, VIDEO2WORLD, box=box, source=source)
        assert torch.equal(here.noise_BCTHW, box.cut(whole.noise_BCTHW))
        assert torch.equal(here.augment_noise_BCTHW, box.cut(whole.augment_noise_BCTHW))


@both_sources
def test_samples_steps_and_streams_are_not_related(source: NoiseSource) -> None:
    """Correlations of noise of 3072 numbers: 0.018 by chance, 0.1 never."""
    shape = (2, 16, 12, 4, 4)
    config = DiffusionConfig(conditioning=ConditioningConfig(max_condition_latents=11))
    steps = [draw_step_noise(shape, ["a", "b"], 7, step, config, source=source) for step in (0, 1)]
    noises = [noise[:, :11].flatten() for one in steps for noise in one.noise_BCTHW]
    noises += [noise[:, :11].flatten() for one in steps for noise in one.augment_noise_BCTHW]
    for left, right in itertools.combinations(noises, 2):
        assert abs(torch.corrcoef(torch.stack([left, right]))[0, 1]) < 0.1


@both_sources
def test_views_are_given_and_hidden_by_their_shares(source: NoiseSource) -> None:
    """Never all of them; the first frames are those of each view, and all may be corrupted."""
    config = replace(VIDEO2WORLD, views=ViewConditioning(max_given=5, name_dropout=0.25))
    keys = [str(i) for i in range(300)]
    drawn = draw_step_noise((300, 1, 9, 2, 2), keys, 0, 0, config, source=source, num_views=3)
    num_given = drawn.given_views_BV.sum(dim=1)
    assert sorted(set(num_given.tolist())) == [0, 1, 2]
    assert (drawn.given_views_BV.mean(dim=0) - 1 / 3).abs().max() < 0.1, "any of the views"
    assert abs(drawn.keep_names_BV.mean() - 0.75) < 0.05
    assert drawn.num_given_B.max() == 2, "as many as leave one of a view's frames"
    assert drawn.augment_noise_BCTHW.abs().amin(dim=(0, 1, 3, 4)).min() > 0
    one = draw_step_noise((300, 1, 9, 2, 2), keys, 0, 0, config, source=source)
    assert torch.equal(one.sigma_B, drawn.sigma_B), "views change no other draw"
    assert one.given_views_BV.tolist() == [[0.0]] * 300
    assert one.keep_names_BV.tolist() == [[1.0]] * 300
