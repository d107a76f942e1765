"""The diffusion generator: what it takes, what it refuses, and how it is stopped."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch

from nemo_cosmos.errors import (
    Cancelled,
    ConfigError,
    InputError,
    WrongFrameCountError,
    WrongSizeError,
)
from nemo_cosmos.models.common.generator import (
    BatchGenerator,
    Shot,
    ViewsGenerator,
    generate_all,
    max_views_of,
)
from nemo_cosmos.models.diffusion import generator as module
from nemo_cosmos.models.diffusion.build import build_network
from nemo_cosmos.models.diffusion.generator import DiffusionGenerator
from nemo_cosmos.models.diffusion.options import SAMPLER_NAMES, DiffusionOptions
from nemo_cosmos.models.diffusion.process.conditioning import ConditioningConfig, ViewConditioning
from nemo_cosmos.models.diffusion.process.config import DiffusionConfig
from nemo_cosmos.models.diffusion.process.samplers import SAMPLERS
from nemo_cosmos.platform import ensure_model_parallel
from nemo_cosmos.testing.tiny import tiny_network, tiny_tokenizer

QUICK = DiffusionOptions(steps=2, guidance=0.0)
TEXT_BLD = torch.ones(1, 4, 12)


@pytest.fixture(scope="module")
def generator() -> DiffusionGenerator:
    ensure_model_parallel()
    torch.manual_seed(0)
    process = DiffusionConfig(conditioning=ConditioningConfig(max_condition_latents=2))
    net = build_network(tiny_network(num_layers=1), process).eval().requires_grad_(False)
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return DiffusionGenerator(net, process, tiny_tokenizer())


@pytest.fixture
def shot() -> Shot:
    return Shot(
        text_BLD=TEXT_BLD,
        negative_text_BLD=torch.zeros_like(TEXT_BLD),
        num_frames=9,
        height=32,
        width=48,
        fps=10.0,
        seed=3,
        options=QUICK,
    )


def test_same_shot_makes_the_same_video_and_a_chunk_has_noise_of_its_own(generator, shot):
    contract: BatchGenerator = generator  # mypy holds the generator to the contract
    first = contract.generate(shot)
    assert first.shape == (1, 3, 9, 32, 48)
    assert torch.equal(first, generator.generate(shot))
    assert not torch.equal(first, generator.generate(replace(shot, chunk=1)))
    assert torch.equal(
        generator.generate(replace(shot, chunk=1)), generator.generate(replace(shot, seed=4))
    )


def test_given_frames_begin_the_video(generator, shot):
    given_BCTHW = torch.linspace(-1, 1, 3 * 5 * 32 * 48).reshape(1, 3, 5, 32, 48)
    video_BCTHW = generator.generate(replace(shot, given_BCTHW=given_BCTHW))
    tokenizer = generator.tokenizer
    expected_BCTHW = tokenizer.decode(tokenizer.encode(given_BCTHW))
    torch.testing.assert_close(video_BCTHW[:, :, :5], expected_BCTHW, atol=0.02, rtol=0)


def test_legal_numbers_of_given_frames(generator):
    assert generator.takes_frames
    assert generator.legal_given(9) == [1, 5]
    assert generator.legal_given(5) == [1], "some frames must be left to generate"


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"num_frames": 10}, WrongFrameCountError, "9 or 13"),
        ({"num_frames": 14}, WrongFrameCountError, "14 frames are more than the 13"),
        ({"num_frames": 21}, WrongFrameCountError, "13 that this model"),
        ({"height": 40}, WrongSizeError, "32 and 48"),
        ({"width": 1280}, WrongSizeError, "up to 128"),
        ({"options": DiffusionOptions(1, 1, "edm_euler")}, ConfigError, "needs 2 or more"),
    ],
)
def test_refuses_what_it_cannot_make(generator, change, error, message):
    asked = {"num_frames": 9, "height": 32, "width": 48, "options": QUICK, **change}
    with pytest.raises(error, match=message):
        generator.check(**asked)


def test_cancelled_sampling_stops_at_that_step_and_frees_its_tensors(
    generator, shot, monkeypatch: pytest.MonkeyPatch
):
    noises, steps = [], []

    def noise(*args: object) -> torch.Tensor:
        made = torch.randn(*args[:1])
        noises.append(weakref.ref(made))
        return made

    def cancel_at_second(done: int, total: int) -> None:
        steps.append(done)
        if done == 2:
            raise Cancelled("enough")

    monkeypatch.setattr(module, "seeded_noise", noise)
    long = replace(shot, options=replace(QUICK, steps=20))
    with pytest.raises(Cancelled, match="enough"):
        generator.generate(long, cancel_at_second)
    gc.collect()
    assert steps == [1, 2] and noises[0]() is None
    assert generator.generate(shot).isfinite().all(), "the generator works afterwards"


def test_options_name_the_samplers_that_there_are():
    assert sorted(SAMPLER_NAMES) == sorted(SAMPLERS)


def test_a_batch_makes_what_each_shot_makes_alone(generator, shot):
    frames_BCTHW = torch.rand(2, 3, 1, 32, 48) * 2 - 1
    shots = [
        replace(shot, given_BCTHW=frames_BCTHW[:1], seed=3),
        replace(shot, given_BCTHW=frames_BCTHW[1:], seed=4, chunk=2),
    ]
    together_BCTHW = generate_all(generator, shots)
    alone_BCTHW = torch.cat([generator.generate(one) for one in shots])
    torch.testing.assert_close(together_BCTHW, alone_BCTHW, atol=1e-4, rtol=1e-4)


def test_a_batch_refuses_shots_of_several_forms(generator, shot):
    with pytest.raises(InputError, match="2 shots of 2 forms"):
        generator.generate_batch([shot, replace(shot, num_frames=5)])
    with pytest.raises(InputError, match="0 shots"):
        generate_all(generator, [])


@pytest.fixture(scope="module")
def of_views() -> DiffusionGenerator:
    """A generator of several cameras, all of whose weights have an effect."""
    ensure_model_parallel()
    torch.manual_seed(0)
    process = DiffusionConfig(
        conditioning=ConditioningConfig(max_condition_latents=2), views=ViewConditioning(1)
    )
    config = tiny_network(num_layers=1, view_slots=("front", "left"))
    net = build_network(config, process).eval().requires_grad_(False)
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return DiffusionGenerator(net, process, tiny_tokenizer())


def test_first_frames_of_every_view_and_a_whole_view_are_given(of_views, shot):
    """One view is given from begin to end, one begins with a frame, one is left to the model."""
    contract: ViewsGenerator = of_views
    assert contract.max_views == 7 and contract.max_given_views == 1
    frames_BCTHW = torch.linspace(-1, 1, 3 * 9 * 32 * 48).reshape(1, 3, 9, 32, 48)
    views = ("front", "left", "roof")
    asked = replace(shot, views=views, given_by_view=(frames_BCTHW, frames_BCTHW[:, :, :1], None))
    video_BCTHW = of_views.generate(asked)
    assert video_BCTHW.shape == (1, 3, 27, 32, 48)
    front, left, _ = video_BCTHW.chunk(3, dim=2)
    tokenizer = of_views.tokenizer
    seen_BCTHW = tokenizer.decode(tokenizer.encode(frames_BCTHW))
    torch.testing.assert_close(front, seen_BCTHW, atol=0.02, rtol=0)
    torch.testing.assert_close(left[:, :, :1], seen_BCTHW[:, :, :1], atol=0.02, rtol=0)
    assert (left[:, :, 1:] - seen_BCTHW[:, :, 1:]).abs().max() > 0.1
    renamed = of_views.generate(replace(asked, views=("front", "right", "roof")))
    assert not torch.equal(renamed, video_BCTHW), "a view is made for its name"


def test_a_rig_reaches_the_network(of_views, shot):
    rig = {
        "rig_poses": np.tile(np.eye(4, dtype=np.float32), (2, 1, 1)),
        "rig_intrinsics": np.tile(np.eye(3, dtype=np.float32), (2, 1, 1)),
        "rig_size": np.ones((2, 2), np.float32),
    }
    moved = {**rig, "rig_poses": rig["rig_poses"] + np.float32([[[0.0]], [[0.5]]])}
    asked = replace(shot, views=("front", "left"))
    made = [of_views.generate(replace(asked, controls=one)) for one in ({}, rig, moved)]
    assert not torch.equal(made[0], made[1]) and not torch.equal(made[1], made[2])


def test_a_generator_of_one_camera_says_so(generator, shot):
    assert max_views_of(generator) == 1
    with pytest.raises(ConfigError, match="built for one camera"):
        generator.generate(replace(shot, views=("front", "left")))
    with pytest.raises(InputError, match="2 forms"):
        generator.generate_batch([shot, replace(shot, views=("front", "left"))])
