from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from nemo_cosmos.checkpoint.world.config import WorldConfig
from nemo_cosmos.checkpoint.world.folder import World, load_world, save_world
from nemo_cosmos.controls import ControlSpec
from nemo_cosmos.errors import (
    CheckpointError,
    ConfigError,
    MissingFileError,
    NemoCosmosError,
    NumericsError,
)
from nemo_cosmos.models.diffusion.build import WorldNetwork, build_network
from nemo_cosmos.models.diffusion.controls import TokenizerFacts
from nemo_cosmos.models.diffusion.network.config import DiTConfig
from nemo_cosmos.models.diffusion.network.inputs import NetworkInput
from nemo_cosmos.models.diffusion.process.conditioning import ConditioningConfig
from nemo_cosmos.models.diffusion.process.config import DiffusionConfig
from nemo_cosmos.models.diffusion.process.edm import EDMConfig
from nemo_cosmos.models.diffusion.settings import DiffusionSettings
from nemo_cosmos.models.tokenizer.network.autoencoder import TokenizerNetwork
from nemo_cosmos.models.tokenizer.presets import TOKENIZERS
from nemo_cosmos.models.tokenizer.tokenizer import VideoTokenizer
from nemo_cosmos.platform import ensure_model_parallel

PROCESS = DiffusionConfig(
    edm=EDMConfig(learned_variance=True), conditioning=ConditioningConfig(max_condition_latents=2)
)
NETWORK = DiTConfig(
    num_layers=1,
    hidden_size=40,
    num_attention_heads=2,
    crossattn_emb_channels=12,
    adaln_lora_dim=8,
    max_frames=4,
    max_height=8,
    max_width=8,
    rope_ratios_thw=(2.0, 1.0, 1.0),
    condition_mask=True,
    layer_spec="local",
)
STATS = {"mean": [0.5] * 7, "std": [2.0] * 7}


@pytest.fixture(scope="module")
def tokenizer() -> VideoTokenizer:
    config = replace(TOKENIZERS["tokenizer_nano_cv4x8x8"], channels=8)
    return VideoTokenizer(TokenizerNetwork(config))


@pytest.fixture(scope="module")
def net() -> WorldNetwork:
    ensure_model_parallel()
    torch.manual_seed(1)
    return build_network(NETWORK, PROCESS, [ControlSpec("action", STATS)], TokenizerFacts(4))


@pytest.fixture
def config() -> WorldConfig:
    return WorldConfig(
        family="diffusion",
        model=DiffusionSettings(NETWORK.architecture(), PROCESS),
        text_encoder={"kind": "embedded", "path": None, "max_length": 8, "dim": 12},
        video={"num_frames": 9, "fps": 10, "height": 32, "width": 32},
        preset="tiny",
        controls=(ControlSpec("action", STATS),),
    )


@pytest.fixture
def folder(
    tmp_path: Path, net: WorldNetwork, config: WorldConfig, tokenizer: VideoTokenizer
) -> Path:
    save_world(tmp_path / "world", net, config, tokenizer)
    return tmp_path / "world"


@torch.no_grad()
def output(net: WorldNetwork) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 16, 3, 4, 4, generator=generator)
    action = torch.randn(1, 8, 7, generator=generator)
    control = net.embed_controls({"action": action}, tuple(x.shape))
    text = torch.randn(1, 8, 12, generator=generator)
    return net(NetworkInput(x, torch.tensor([0.3]), text, control=control))


def assert_same(net: WorldNetwork, other: WorldNetwork) -> None:
    state, other_state = net.state_dict(), other.state_dict()
    assert state.keys() == other_state.keys()
    for name, value in state.items():
        assert value is None or torch.equal(value, other_state[name]), name
    # Equal weights at another alignment in memory round differently in the last bit.
    torch.testing.assert_close(output(net), output(other), rtol=1e-6, atol=1e-6)


def test_a_saved_world_computes_the_same(folder: Path, net: WorldNetwork) -> None:
    world: World = load_world(folder)
    assert_same(world.net, net)
    assert world.config.model.process == PROCESS
    assert world.config.controls == (ControlSpec("action", STATS),)
    assert world.tokenizer.config.temporal_factor == 4
    assert world.net.controls["action"].std.tolist() == [2.0] * 7
    assert not world.net.training and not any(p.requires_grad for p in world.net.parameters())


def as_version_1(folder: Path) -> None:
    """Rewrite a folder as earlier releases wrote it: one control, under its own entries."""
    data = json.loads((folder / "config.json").read_text())
    (control,) = data.pop("controls")
    data |= {"version": 1, "control": control["name"], "control_options": control["options"]}
    (folder / "config.json").write_text(json.dumps(data))
    state = load_file(folder / "model.safetensors")
    old = {name.replace("controls.action.", "control."): value for name, value in state.items()}
    assert old.keys() != state.keys()
    save_file(old, folder / "model.safetensors")


def test_a_folder_of_version_1_computes_the_same(folder: Path, net: WorldNetwork) -> None:
    as_version_1(folder)
    assert_same(load_world(folder).net, net)


def test_weights_in_another_precision(folder: Path) -> None:
    world = load_world(folder, dtype=torch.bfloat16)
    assert {p.dtype for p in world.net.blocks.parameters()} == {torch.bfloat16}


def test_tokenizer_folder_is_copied(
    tmp_path: Path, net: WorldNetwork, config: WorldConfig, tokenizer: VideoTokenizer
) -> None:
    tokenizer.save(tmp_path / "tok")
    save_world(tmp_path / "world", net, config, tmp_path / "tok")
    load_world(tmp_path / "world")
    with pytest.raises(MissingFileError, match="not a tokenizer folder"):
        save_world(tmp_path / "other", net, config, tmp_path / "nowhere")
    assert not (tmp_path / "other").exists(), "nothing half-written stays"


def test_a_failed_save_leaves_the_old_folder(
    folder: Path, net: WorldNetwork, config: WorldConfig, tokenizer: VideoTokenizer
) -> None:
    broken = build_network(NETWORK, PROCESS)
    torch.nn.init.constant_(broken.final_layer.linear.weight, float("inf"))
    with pytest.raises(NumericsError, match=r"final_layer\.linear\.weight"):
        save_world(folder, broken, config, tokenizer)
    assert_same(load_world(folder).net, net)


def spoil(change: Callable[[dict[str, torch.Tensor]], None]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        state = load_file(folder / "model.safetensors")
        change(state)
        save_file(state, folder / "model.safetensors")

    return apply


def edit_config(**changes: object) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        data = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**data, **changes}))

    return apply


def edit_part(section: str, **changes: object) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        data = json.loads((folder / "config.json").read_text())
        edit_config(**{section: {**data[section], **changes}})(folder)

    return apply


BIAS = "controls.action.timestep.0.bias"
DAMAGES: list[tuple[Callable[[Path], None], type[NemoCosmosError], str]] = [
    (spoil(lambda s: s.pop(BIAS)), CheckpointError, rf"1 missing \({BIAS}\)"),
    (spoil(lambda s: s.update(x=torch.ones(1))), CheckpointError, r"1 unexpected \(x\)"),
    (
        spoil(lambda s: s.update({BIAS: torch.ones(3)})),
        CheckpointError,
        r"\(3,\) instead of \(160,\)",
    ),
    (spoil(lambda s: s[BIAS].fill_(float("nan"))), NumericsError, BIAS),
    (
        lambda f: (f / "model.safetensors").write_bytes(b"half a file"),
        CheckpointError,
        "not a readable safetensors",
    ),
    (lambda f: (f / "model.safetensors").unlink(), MissingFileError, "model.safetensors"),
    (lambda f: (f / "config.json").write_text("{"), CheckpointError, "not valid JSON"),
    (lambda f: (f / "config.json").write_text("[]"), CheckpointError, "format 'None'"),
    (edit_config(network=None), ConfigError, "'network' is None"),
    (edit_config(process=[1]), ConfigError, r"'process' is \[1\]"),
    (edit_config(version=99), CheckpointError, "version 99"),
    (
        edit_config(controls=[{"name": "steering", "options": {}}]),
        ConfigError,
        "no control 'steering'.*'action'",
    ),
    (edit_config(controls=["action"]), CheckpointError, "'name' and 'options'"),
    (edit_config(colour=1), ConfigError, "'config.json' has 'colour'"),
    (edit_part("network", hidden_sise=4), ConfigError, "'hidden_size'"),
    (edit_part("network", condition_mask="yes"), ConfigError, "condition_mask is 'yes'"),
    (edit_part("network", num_layers="1"), ConfigError, "num_layers is '1'"),
    (edit_part("network", num_layers=2), CheckpointError, "missing"),
    (edit_part("process", colour=1), ConfigError, "'process' has 'colour'"),
    (edit_part("process", edm={"sigma": 1}), ConfigError, "sigma"),
    (edit_part("process", conditioning=3), ConfigError, "'process.conditioning' is 3"),
    (edit_part("text_encoder", colour=1), ConfigError, "'text_encoder' has 'colour'"),
    (edit_part("text_encoder", max_length="8"), ConfigError, "max_length is '8'"),
    (edit_part("video", colour=1), ConfigError, "'video' has 'colour'"),
    (edit_part("video", fps=float("nan")), ConfigError, r"video\.fps is nan"),
    (edit_part("video", num_frames=0), ConfigError, r"video\.num_frames is 0"),
    (edit_part("made_with", colour=1), ConfigError, "'made_with' has 'colour'"),
    (edit_config(allowed_mismatch="model"), ConfigError, "allowed_mismatch is 'model'"),
    (
        edit_config(controls=[{"name": "action", "options": STATS, "colour": 1}]),
        CheckpointError,
        "'name' and 'options' alone",
    ),
    (edit_config(controls=[{"name": "action", "options": 3}]), CheckpointError, "options"),
]


@pytest.mark.parametrize(("damage", "error", "message"), DAMAGES)
def test_damage_is_one_clear_error(
    folder: Path,
    damage: Callable[[Path], None],
    error: type[NemoCosmosError],
    message: str,
) -> None:
    damage(folder)
    with pytest.raises(error, match=message):
        load_world(folder)


def test_incomplete_configuration_names_what_is_missing(folder: Path) -> None:
    data = json.loads((folder / "config.json").read_text())
    del data["video"], data["process"]
    (folder / "config.json").write_text(json.dumps(data))
    with pytest.raises(ConfigError, match="lacks process, video"):
        load_world(folder)


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="world-model folder holds"):
        load_world(tmp_path / "nowhere")
