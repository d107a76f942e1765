"""Parameter counts equal those of the published models, to the unit."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from nemo_cosmos.checkpoint.autoregressive.keys import export_ar_state
from nemo_cosmos.errors import ConfigError, WrongSizeError
from nemo_cosmos.models.autoregressive.costs import grid_of
from nemo_cosmos.models.autoregressive.network.places import check_grid
from nemo_cosmos.models.autoregressive.network.transformer import ARNetwork
from nemo_cosmos.models.autoregressive.presets import (
    AUTOREGRESSIVE,
    count_parameters,
    get_ar_preset,
)
from nemo_cosmos.models.tokenizer.presets import TOKENIZERS
from nemo_cosmos.platform.distributed import single_process_groups

PUBLISHED = {
    "ar_4b": (4_014_088_192, 179),
    "ar_5b_video2world": (4_584_583_168, 291),
    "ar_12b": (11_560_975_360, 443),
    "ar_13b_video2world": (13_322_798_080, 723),
}


@pytest.mark.parametrize(("name", "published"), PUBLISHED.items())
def test_published_sizes(name: str, published: tuple[int, int]) -> None:
    parameters, num_keys = published
    assert count_parameters(AUTOREGRESSIVE[name]) == parameters
    config = AUTOREGRESSIVE[name].config(perform_initialization=False, use_cpu_initialization=True)
    with torch.device("meta"):
        net = ARNetwork(config, pg_collection=single_process_groups())
    # The published figure leaves out the padded row of the token of the beginning.
    begin = 64 * config.hidden_size if config.begin_token else 0
    assert sum(parameter.numel() for parameter in net.parameters()) == parameters + begin
    state = export_ar_state(net.state_dict(), config)
    assert len(state) == num_keys
    assert state["model.output.weight"].shape == (64_000, config.hidden_size)
    assert state["model.layers.0.attention.wk.weight"].shape == (1024, config.hidden_size)


@pytest.mark.parametrize(("size", "num_codes"), [((640, 1024), 12_800), ((320, 512), 3_200)])
@pytest.mark.parametrize("name", PUBLISHED)
def test_published_models_take_both_published_sizes(
    name: str, size: tuple[int, int], num_codes: int
) -> None:
    preset = AUTOREGRESSIVE[name]
    tokenizer = TOKENIZERS[preset.tokenizer]
    config = preset.config()
    assert check_grid(grid_of((33, *size), tokenizer), config) == num_codes
    given = [grid_of((frames, *size), tokenizer)[0] for frames in (1, 9)]
    assert given == [1, 2], "what is given fills whole latent frames"
    with pytest.raises(WrongSizeError, match="height"):
        check_grid(grid_of((33, 656, size[1]), tokenizer), config)


def test_nano_is_nano() -> None:
    preset = AUTOREGRESSIVE["ar_nano"]
    codes = 2 * 64_000 * preset.network["hidden_size"]  # of the tokenizer, whatever the size
    assert count_parameters(preset) - codes < 5e6


def test_a_name_that_is_not_there() -> None:
    assert get_ar_preset("ar_12b").top_p == 0.9
    with pytest.raises(ConfigError, match="'ar_5b_video2world'"):
        get_ar_preset("ar_5b")


def test_listing_presets_does_not_import_torch() -> None:
    code = (
        "import sys; from nemo_cosmos.models.autoregressive.presets import AUTOREGRESSIVE; "
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
