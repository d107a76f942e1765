"""World folders of the smallest size, with random weights of which none is zero."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from nemo_cosmos.checkpoint.world.config import WorldConfig
from nemo_cosmos.checkpoint.world.folder import save_world
from nemo_cosmos.controls import ControlSpec
from nemo_cosmos.models.diffusion.build import build_network
from nemo_cosmos.models.diffusion.controls import TokenizerFacts
from nemo_cosmos.models.diffusion.network.config import DiTConfig
from nemo_cosmos.models.diffusion.process.conditioning import ConditioningConfig
from nemo_cosmos.models.diffusion.process.config import DiffusionConfig
from nemo_cosmos.models.diffusion.process.edm import EDMConfig
from nemo_cosmos.models.diffusion.settings import DiffusionSettings
from nemo_cosmos.models.tokenizer.latent_stats import LatentStats
from nemo_cosmos.models.tokenizer.network.autoencoder import TokenizerNetwork
from nemo_cosmos.models.tokenizer.presets import TOKENIZERS
from nemo_cosmos.models.tokenizer.tokenizer import VideoTokenizer
from nemo_cosmos.platform import ensure_model_parallel


def build_world(folder: Path, task: str = "text2world", control: str | None = None) -> Path:
    ensure_model_parallel()
    generator = torch.Generator().manual_seed(5)
    takes_frames = task == "video2world"
    config = DiTConfig(
        num_layers=2, hidden_size=48, num_attention_heads=2, crossattn_emb_channels=16,
        adaln_lora_dim=8, max_frames=4, max_height=16, max_width=16, condition_mask=takes_frames,
        rope_ratios_thw=(2.0, 1.0, 1.0), layer_spec="local",
    )  # fmt: skip
    process = DiffusionConfig(
        edm=EDMConfig(learned_variance=True),
        conditioning=ConditioningConfig(max_condition_latents=2 if takes_frames else 0),
    )
    controls = () if control is None else (ControlSpec(control),)
    net = build_network(config, process, controls, TokenizerFacts(temporal_factor=4))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
    tokenizer = replace(
        TOKENIZERS["tokenizer_nano_cv4x8x8"], name="tiny", channels=8, num_res_blocks=1
    )
    stats = LatentStats(torch.randn(16, generator=generator), torch.full((16,), 0.7))
    world = WorldConfig(
        family="diffusion",
        model=DiffusionSettings(config.architecture(), process),
        text_encoder={"kind": "t5", "path": "nowhere", "max_length": 6, "dim": 16},
        video={"num_frames": 9, "fps": 10.0, "height": 32, "width": 48},
        preset="tiny",
        controls=controls,
    )
    save_world(folder, net, world, VideoTokenizer(TokenizerNetwork(tokenizer), stats))
    return folder


@pytest.fixture(scope="session")
def make_world(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Each kind of world, built once; nobody may change it."""
    made: dict[tuple[str, str | None], Path] = {}

    def make(task: str = "text2world", control: str | None = None) -> Path:
        if (task, control) not in made:
            folder = tmp_path_factory.mktemp("worlds") / f"{task}_{control}"
            made[task, control] = build_world(folder, task, control)
        return made[task, control]

    return make
