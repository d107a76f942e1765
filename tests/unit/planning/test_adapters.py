"""Plans of runs that train adapters: only what is trained has gradients and optimiser state."""

from __future__ import annotations

import pytest

from nemo_cosmos.planning.hardware import GB, USABLE_MEMORY, get_gpu
from nemo_cosmos.planning.recipe import plan_recipe
from recipes.registry import get_recipe

H100 = get_gpu("h100")


def plan(name: str, scheme: str | None, num_gpus: int = 1):
    recipe = get_recipe(name, True, scheme)
    return plan_recipe(recipe, H100, num_gpus, 80 * GB, fsdp=True)


@pytest.mark.parametrize(
    "name", ["diffusion_7b_video2world", "ar_4b", "ar_5b_video2world", "diffusion_7b_camera"]
)
def test_adapters_fit_on_one_gpu(name):
    found = plan(name, "lora")
    layers, counts = found.workload.num_layers, found.workload.parameters
    assert counts.trained == layers * counts.layer_adapters + counts.trained_outside
    assert 0 < counts.trained < 0.06 * counts.network
    memory = found.best.memory
    assert memory.total <= 80 * GB * USABLE_MEMORY
    assert memory.weights == pytest.approx(2 * counts.on_stage(1, 1))
    assert memory.gradients + memory.optimizer + memory.ema < 0.25 * memory.weights


def test_all_weights_of_7b_do_not_fit_on_one_gpu():
    from nemo_cosmos.errors import ConfigError

    with pytest.raises(ConfigError, match="Nothing fits"):
        plan("diffusion_7b_video2world", None)


def test_a_step_without_gradients_of_weights_is_shorter():
    whole, adapted = (plan("diffusion_7b_video2world", scheme, 64) for scheme in (None, "lora"))
    assert adapted.model_flops < 0.9 * whole.model_flops
    assert adapted.best.time.total_s < whole.best.time.total_s
    state = adapted.to_dict()["model_state_gb"]
    assert state["weights"] > 10 * (state["gradients"] + state["optimizer"])
