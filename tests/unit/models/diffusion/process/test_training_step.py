from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from megatron.core.transformer.module import Float16Module, MegatronModule
from megatron.core.transformer.transformer_config import TransformerConfig

from nemo_cosmos.errors import ConfigError, NumericsError, SampleError
from nemo_cosmos.models.diffusion.controls import ControlEmbedding
from nemo_cosmos.models.diffusion.network.inputs import NetworkInput
from nemo_cosmos.models.diffusion.presets import DIFFUSION
from nemo_cosmos.models.diffusion.process.conditioning import ConditioningConfig, ViewConditioning
from nemo_cosmos.models.diffusion.process.config import DiffusionConfig
from nemo_cosmos.models.diffusion.process.edm import EDMConfig, LogVariance
from nemo_cosmos.models.diffusion.process.step_noise import draw_step_noise
from nemo_cosmos.models.diffusion.process.training_step import (
    check_batch,
    make_training_step,
    sample_keys,
)
from nemo_cosmos.platform import ensure_model_parallel
from nemo_cosmos.testing.recording_device import Recording

SHAPE = (4, 16, 3, 4, 4)
KEYS = ["a", "b", "c", "d"]
VIDEO2WORLD = DiffusionConfig(conditioning=ConditioningConfig(max_condition_latents=2))


def make_batch(shape: tuple[int, ...] = SHAPE) -> dict[str, torch.Tensor]:
    return {
        "latent": torch.randn(shape),
        "t5_text_embeddings": torch.ones(shape[0], 5, 8),
        "fps": torch.full((shape[0],), 24.0),
    }


def test_a_perfect_network_has_no_loss_and_given_frames_do_not_count() -> None:
    batch, draws = make_batch(), draw_step_noise(SHAPE, KEYS, 1, 10, VIDEO2WORLD)
    assert draws.num_given_B.max() > 0
    step = make_training_step(batch, draws, VIDEO2WORLD)
    sigma = draws.sigma_B.view(-1, 1, 1, 1, 1)
    x0 = 0.5 * batch["latent"]
    noisy = x0 + sigma * draws.noise_BCTHW
    c_skip, c_out = 0.25 / (sigma**2 + 0.25), sigma * 0.5 / (sigma**2 + 0.25).sqrt()
    perfect = (x0 - c_skip * noisy) / c_out
    perfect = perfect + 100 * step.frames.given_B1T11  # wrong where it was given
    torch.testing.assert_close(step.loss(perfect), torch.zeros(4), atol=1e-3, rtol=0)


def test_dropped_text_and_control_reach_the_network_as_zeros() -> None:
    config = DiffusionConfig()
    draws = replace(
        draw_step_noise(SHAPE, KEYS, 3, 0, config),
        keep_text_B=torch.tensor([1.0, 0.0, 1.0, 0.0]),
        keep_control_B=torch.tensor([0.0, 0.0, 1.0, 1.0]),
    )

    def embed(batch: object, shape: tuple[int, ...]) -> ControlEmbedding:
        return ControlEmbedding(timestep_BTD=torch.ones(shape[0], shape[2], 6))

    inputs = make_training_step(make_batch(), draws, config, embed).inputs
    assert inputs.text.amax(dim=(1, 2)).tolist() == [1, 0, 1, 0]
    assert inputs.control.timestep_BTD.amax(dim=(1, 2)).tolist() == [0, 0, 1, 1]
    assert inputs.condition_mask_B1THW is None, "Text2World has no mask channel"


def test_mixed_precision_wrappers_round_neither_noise_level_nor_frame_rate() -> None:
    ensure_model_parallel()  # the wrapper asks which pipeline stage it is

    class Echo(MegatronModule):
        def forward(self, inputs: NetworkInput) -> tuple[torch.Tensor | None, ...]:
            return inputs.c_noise, inputs.fps_B

    config = TransformerConfig(
        num_layers=1, hidden_size=8, num_attention_heads=1, bf16=True, params_dtype=torch.bfloat16
    )
    batch = {**make_batch(), "fps": torch.full((4,), 29.97)}
    step = make_training_step(batch, draw_step_noise(SHAPE, KEYS, 1, 0, VIDEO2WORLD), VIDEO2WORLD)
    c_noise, fps_B = Float16Module(config, Echo(config))(step.inputs)
    assert torch.equal(c_noise, step.inputs.c_noise)
    assert torch.equal(fps_B, batch["fps"])


def test_configuration_survives_json() -> None:
    config = DiffusionConfig(
        edm=EDMConfig(adjust_video_noise=True),
        conditioning=ConditioningConfig(max_condition_latents=1, text_dropout=0.1),
    )
    assert DiffusionConfig.from_dict(config.to_dict()) == config
    with pytest.raises(ConfigError, match="colour"):
        DiffusionConfig.from_dict({**config.to_dict(), "edm": {"colour": 1}})


def test_a_process_of_one_camera_is_recorded_as_it_always_was() -> None:
    assert "views" not in DiffusionConfig().to_dict()
    config = DiffusionConfig(views=ViewConditioning(max_given=5, name_dropout=0.2))
    assert DiffusionConfig.from_dict(config.to_dict()) == config and config.takes_frames


def test_process_of_the_published_models() -> None:
    large = DIFFUSION["diffusion_14b_video2world"].process()
    assert large.edm.adjust_video_noise and large.conditioning.max_condition_latents == 2
    small = DIFFUSION["diffusion_7b_text2world"].process()
    assert not small.edm.adjust_video_noise and not small.conditioning.takes_frames


def test_learned_variance_starts_at_zero_and_varies_with_the_noise() -> None:
    logvar = LogVariance()
    c_noise_B = torch.linspace(-1, 1, 5)
    assert logvar(c_noise_B).tolist() == [0.0] * 5
    torch.nn.init.normal_(logvar.weight)
    assert len(set(logvar(c_noise_B).tolist())) == 5


def test_bad_batches() -> None:
    batch = make_batch()
    batch["latent"][2, 3, 1] = float("inf")
    with pytest.raises(NumericsError, match="row 2"):
        check_batch(batch)
    with pytest.raises(NumericsError, match="clip-c"):
        check_batch({**batch, "key": ["clip-a", "clip-b", "clip-c", "clip-d"]})
    with pytest.raises(SampleError, match="nothing under 'latent'"):
        check_batch({"t5_text_embeddings": torch.ones(1, 2, 3)})
    with pytest.raises(SampleError, match=r"shape \(4, 16\)"):
        check_batch({**batch, "latent": torch.ones(4, 16)})


@pytest.mark.parametrize("looked_at", [[True, True, True, False], [True] * 4])
def test_latents_that_their_reader_has_looked_at_are_not_looked_at_again(
    looked_at: list[bool],
) -> None:
    batch = {**make_batch(), "is_finite": looked_at}
    with Recording(torch.device("cpu")) as recording:
        check_batch(batch)
    assert (recording.num_operations == 0) == all(looked_at)


def test_samples_without_keys_are_numbered() -> None:
    assert sample_keys(make_batch(), "0.7.") == ["0.7.0", "0.7.1", "0.7.2", "0.7.3"]
