"""The numbers of the stages of autoregressive pre-training."""

from __future__ import annotations

import fiddle as fdl
import pytest
import torch

from nemo_cosmos.models.autoregressive.network.config import ARConfig
from recipes.registry import get_recipe


def network(name: str) -> ARConfig:
    pretrains = name.endswith("_stage_1")
    built: ARConfig = fdl.build(get_recipe(name, post_training=not pretrains).model.config)
    return built


@pytest.mark.parametrize("size", ["4b", "12b"])
def test_the_second_stage_sees_longer_videos(size: str) -> None:
    first, longer = network(f"ar_{size}_stage_1"), network(f"ar_{size}_stage_1_1")
    assert (first.max_frames, longer.max_frames) == (3, 5), "17 and 33 frames"
    assert first.yarn_lengths_thw is None
    assert longer.yarn_lengths_thw == ((3, 40, 64) if size == "12b" else None)


@pytest.mark.parametrize("size", ["5b", "13b"])
def test_stage_2_has_a_text_and_images(size: str) -> None:
    recipe = get_recipe(f"ar_{size}_video2world_stage_2", post_training=True)
    assert recipe.model.config.context_channels == 1024
    assert recipe.data.image_ratio > 0
    assert "context_channels" in recipe.model.extends


@pytest.mark.parametrize("name", ["ar_4b", "ar_12b", "ar_5b_video2world", "ar_13b_video2world"])
def test_a_cool_down_ends_at_zero(name: str) -> None:
    recipe = get_recipe(f"{name}_cool_down", post_training=True)
    assert recipe.trainer.max_steps == 30_000
    module = fdl.build(recipe.optim.lr_scheduler)
    module.max_steps = recipe.trainer.max_steps  # as the strategy sets it
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = module.scheduler(None, optimizer)["lr_scheduler"]["scheduler"]
    rates = {}
    for step in (0, 7_500, 15_000, 30_000):
        schedule.last_epoch = step
        rates[step] = schedule._get_lr(step)[0]
    assert rates == pytest.approx({0: 1.0, 7_500: 0.75, 15_000: 0.5, 30_000: 0.0})


def test_a_stage_trains_on_as_many_machines_as_pre_training() -> None:
    stage, whole = get_recipe("ar_4b_stage_1_1", post_training=True), get_recipe("ar_4b")
    assert stage.trainer.num_nodes == whole.trainer.num_nodes
    assert stage.data.global_batch_size == whole.data.global_batch_size
