"""Renaming and fusing weights, both ways, and what a wrong checkpoint says."""

from __future__ import annotations

import pytest
import torch

from nemo_cosmos.checkpoint.diffusion.keys import (
    Naming,
    export_diffusion_state,
    import_diffusion_state,
)
from nemo_cosmos.errors import CheckpointError, ConfigError
from nemo_cosmos.models.diffusion.network.config import DiTConfig
from nemo_cosmos.models.diffusion.network.dit import DiT
from nemo_cosmos.platform import ensure_model_parallel


@pytest.fixture(scope="module")
def net() -> DiT:
    ensure_model_parallel()
    return DiT(
        DiTConfig(
            num_layers=2,
            hidden_size=60,
            num_attention_heads=3,
            crossattn_emb_channels=12,
            adaln_lora_dim=4,
            max_frames=4,
            max_height=8,
            max_width=8,
        )
    )


@pytest.mark.parametrize("naming", ["diffusers", "cosmos"])
def test_there_and_back(net: DiT, naming: Naming) -> None:
    foreign = export_diffusion_state(net.state_dict(), net.config, naming)
    assert len(foreign) == 10 + 20 * 2
    ours = import_diffusion_state(foreign, net.config, naming)
    state = {k: v for k, v in net.state_dict().items() if isinstance(v, torch.Tensor)}
    assert ours.keys() == state.keys()
    assert all(torch.equal(ours[name], tensor) for name, tensor in state.items())


def test_original_names_with_or_without_prefix_and_with_their_extras(net: DiT) -> None:
    foreign = export_diffusion_state(net.state_dict(), net.config, "cosmos")
    assert "net.blocks.block1.blocks.2.adaLN_modulation.2.weight" in foreign
    bare = {name.removeprefix("net."): tensor for name, tensor in foreign.items()}
    bare |= {"logvar.0.freqs": torch.zeros(128), "pos_embedder.seq": torch.zeros(240)}
    ours = import_diffusion_state(bare, net.config, "cosmos")
    assert ours.keys() == import_diffusion_state(foreign, net.config, "cosmos").keys()


def test_a_checkpoint_of_another_model(net: DiT) -> None:
    foreign = export_diffusion_state(net.state_dict(), net.config, "diffusers")
    with pytest.raises(CheckpointError, match=r"1 unexpected \(controlnet\.weight\)"):
        import_diffusion_state(
            {**foreign, "controlnet.weight": torch.zeros(1)}, net.config, "diffusers"
        )
    del foreign["transformer_blocks.1.attn2.to_v.weight"]
    with pytest.raises(CheckpointError, match=r"1 missing \(transformer_blocks\.1\.attn2\.to_v"):
        import_diffusion_state(foreign, net.config, "diffusers")
    with pytest.raises(CheckpointError, match=r"lacks the weight 'patch_embed\.proj\.weight'"):
        export_diffusion_state({}, net.config, "diffusers")
    with pytest.raises(ConfigError, match="'hf' is unknown"):
        export_diffusion_state(net.state_dict(), net.config, "hf")
