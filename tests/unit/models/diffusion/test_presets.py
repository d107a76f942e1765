"""Parameter counts equal those of the published checkpoints, to the unit."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from nemo_cosmos.checkpoint.diffusion.keys import export_diffusion_state
from nemo_cosmos.errors import ConfigError
from nemo_cosmos.models.diffusion.presets import DIFFUSION, count_parameters, get_diffusion_preset

PUBLISHED = {
    "diffusion_7b_text2world": 7_236_192_256,
    "diffusion_7b_video2world": 7_236_208_640,
    "diffusion_14b_text2world": 14_267_149_312,
    "diffusion_14b_video2world": 14_267_169_792,
}


@pytest.mark.parametrize(("name", "parameters"), PUBLISHED.items())
def test_published_sizes(name: str, parameters: int) -> None:
    assert count_parameters(DIFFUSION[name]) == parameters


@pytest.mark.parametrize(
    ("name", "num_keys"), [("diffusion_7b_text2world", 570), ("diffusion_14b_video2world", 730)]
)
def test_published_number_of_weights(name: str, num_keys: int) -> None:
    from nemo_cosmos.models.diffusion.network.dit import DiT
    from nemo_cosmos.platform.distributed import single_process_groups

    config = DIFFUSION[name].config(perform_initialization=False, use_cpu_initialization=True)
    with torch.device("meta"):
        net = DiT(config, pg_collection=single_process_groups())
    state = export_diffusion_state(net.state_dict(), config, "cosmos")
    assert len(state) == num_keys
    width = config.hidden_size
    assert state["net.x_embedder.proj.1.weight"].shape == (width, 4 * config.input_channels)
    assert state["net.blocks.block0.blocks.1.block.attn.to_k.0.weight"].shape == (width, 1024)


def test_nano_is_nano() -> None:
    for task in ("text2world", "video2world"):
        assert count_parameters(DIFFUSION[f"diffusion_nano_{task}"]) < 2e7


def test_a_name_that_is_not_there() -> None:
    assert get_diffusion_preset("diffusion_14b_text2world").adjust_video_noise
    with pytest.raises(ConfigError, match="'diffusion_7b_text2world'"):
        get_diffusion_preset("diffusion_7b_txt2world")


def test_listing_presets_does_not_import_torch() -> None:
    code = (
        "import sys; from nemo_cosmos.models.diffusion.presets import DIFFUSION; "
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
