"""What must not be mixed in a run, and what names the difference."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from nemo_cosmos.checkpoint.world.config import WorldConfig
from nemo_cosmos.checkpoint.world.folder import save_world
from nemo_cosmos.controls import ControlSpec
from nemo_cosmos.errors import ConfigError
from nemo_cosmos.models.common.family import WorldInfo
from nemo_cosmos.models.diffusion.model import DiffusionModel
from nemo_cosmos.models.diffusion.network.config import DiTConfig
from nemo_cosmos.models.diffusion.process.config import DiffusionConfig
from nemo_cosmos.models.diffusion.process.edm import EDMConfig
from nemo_cosmos.models.tokenizer.latent_stats import LatentStats
from nemo_cosmos.models.tokenizer.model import TokenizerModel
from nemo_cosmos.models.tokenizer.network.autoencoder import TokenizerNetwork
from nemo_cosmos.models.tokenizer.presets import TOKENIZERS
from nemo_cosmos.models.tokenizer.tokenizer import VideoTokenizer
from nemo_cosmos.training.matching import check_belonging

STATS = {"mean": [0.5] * 16, "std": [2.0] * 16}
TEXT = {"kind": "t5", "path": "/models/t5-11b", "max_length": 512, "dim": 12}


def make_model(process: DiffusionConfig | None = None, **changes: Any) -> DiffusionModel:
    sizes: dict[str, Any] = {
        "num_layers": 1, "hidden_size": 40, "num_attention_heads": 2, "crossattn_emb_channels": 12,
        "adaln_lora_dim": 8, "layer_spec": "local",
    }  # fmt: skip
    return DiffusionModel(DiTConfig(**{**sizes, **changes}), process)


def write_data(folder: Path, **changes: Any) -> str:
    folder.mkdir()
    info = {"tokenizer_name": "tok", "latent_stats": STATS, "text_encoder": TEXT, **changes}
    (folder / "dataset.json").write_text(json.dumps(info))
    return str(folder)


def data_of(*folders: str) -> tuple[str, ...]:
    return folders


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """A world folder of :func:`make_model`; its weights are not looked at here."""
    config = replace(TOKENIZERS["tokenizer_nano_cv4x8x8"], channels=8, num_res_blocks=1)
    stats = LatentStats(torch.full((16,), 0.5), torch.full((16,), 2.0))
    info = WorldInfo("", TEXT, {"num_frames": 9, "fps": 10.0, "height": 32, "width": 32})
    described = WorldConfig.of(make_model().describe(), info)
    tokenizer = VideoTokenizer(TokenizerNetwork(config), stats)
    save_world(tmp_path / "world", {"x": torch.zeros(1)}, described, tokenizer)
    return tmp_path / "world"


def test_what_belongs_together_passes(world: Path, tmp_path: Path) -> None:
    elsewhere = {**TEXT, "path": "google-t5/t5-11b", "max_length": 64}
    folders = write_data(tmp_path / "a"), write_data(tmp_path / "b", text_encoder=elsewhere)
    check_belonging(make_model(), data_of(*folders), world)
    check_belonging(make_model(), data_of(str(tmp_path / "without_dataset_json")), None)


def test_a_control_and_other_noise_levels_are_no_mismatch(world: Path) -> None:
    process = DiffusionConfig(edm=EDMConfig(p_mean=1.4, learned_variance=True))
    model = make_model(process, control_channels=6)
    model.controls = (ControlSpec("action"),)
    check_belonging(model, data_of(), world)


OTHER_STATS = {**STATS, "std": [2.5] * 16}


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"latent_stats": OTHER_STATS, "tokenizer_name": "tok2"}, "tokenizer", "'tok2'"),
        ({"text_encoder": {**TEXT, "path": "t5-small"}}, "text_encoder", "path t5-small"),
        ({"text_encoder": {"kind": "embedded", "dim": 12}}, "text_encoder", "kind embedded"),
    ],
)
def test_data_of_two_encoders_are_refused(
    world: Path, tmp_path: Path, changes: dict[str, Any], kind: str, message: str
) -> None:
    other = write_data(tmp_path / "other", **changes)
    for data, weights in (
        (data_of(write_data(tmp_path / "data"), other), None),
        (data_of(other), world),
    ):
        with pytest.raises(ConfigError, match=rf"{message}.*--allow-mismatch {kind}"):
            check_belonging(make_model(), data, weights)
        check_belonging(make_model(), data, weights, allowed=[kind])


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (make_model(num_layers=2), r"has num_layers=1, but 'this run' has num_layers=2"),
        (make_model(rope_ratios_thw=(2.0, 1.0, 1.0)), "rope_ratios_thw"),
        (make_model(base_fps=16.0), "has base_fps=24.0, but 'this run' has base_fps=16.0"),
        (make_model(DiffusionConfig(edm=EDMConfig(sigma_data=1.0))), "sigma_data=0.5"),
    ],
)
def test_weights_of_another_model_are_refused(
    world: Path, model: DiffusionModel, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        check_belonging(model, data_of(), world)


def test_an_unknown_kind_names_the_known() -> None:
    with pytest.raises(ConfigError, match=r"'tokeniser'.*'tokenizer', 'text_encoder'"):
        check_belonging(make_model(), data_of(), None, allowed=["tokeniser"])


def test_a_checkpoint_of_the_run_is_compared_as_starting_weights_are(
    world: Path, tmp_path: Path
) -> None:
    checkpoint = tmp_path / "step=000004"
    checkpoint.mkdir()
    (checkpoint / "nemo_cosmos.json").write_text((world / "config.json").read_text())
    other = write_data(tmp_path / "other", latent_stats=OTHER_STATS)
    with pytest.raises(ConfigError, match=r"step=000004.*two tokenizers"):
        check_belonging(make_model(), data_of(other), checkpoint=checkpoint)
    (meant,) = check_belonging(make_model(), data_of(other), None, ["tokenizer"], checkpoint=world)
    assert "two tokenizers" in meant


def test_a_tokenizer_that_was_trained_again_in_its_place(world: Path, tmp_path: Path) -> None:
    tokenizer = VideoTokenizer.from_folder(world / "tokenizer")
    record = {**tokenizer.describe(), "tokenizer": str(tmp_path / "tok")}
    data = write_data(tmp_path / "data", **record)
    tokenizer.save(tmp_path / "tok")
    check_belonging(make_model(), data_of(data), world)
    with torch.no_grad():
        tokenizer.net.decoder.conv_in[0].conv3d.weight.add_(1.0)
    tokenizer.save(tmp_path / "tok")  # the latents are the same
    check_belonging(make_model(), data_of(data), world)
    with torch.no_grad():
        tokenizer.net.encoder.conv_in[0].conv3d.weight.add_(1.0)
    tokenizer.save(tmp_path / "tok")
    with pytest.raises(ConfigError, match=r"tok'.*their weights differ"):
        check_belonging(make_model(), data_of(data), world)


@pytest.mark.parametrize(
    ("text", "match"),
    [({"probe": [1.0, -0.5]}, None), ({"probe": [0.5, 1.0]}, "of the same text")],
)
def test_an_encoder_is_known_by_what_it_makes_of_a_text(
    tmp_path: Path, text: dict[str, Any], match: str | None
) -> None:
    one = write_data(tmp_path / "one", text_encoder={**TEXT, "probe": [1.0, -0.49999]})
    two = write_data(tmp_path / "two", text_encoder={**TEXT, "path": "/copied/t5", **text})
    if match is None:  # the same encoder under another name
        check_belonging(make_model(), data_of(one, two))
        return
    with pytest.raises(ConfigError, match=rf"{match}.*--allow-mismatch text_encoder"):
        check_belonging(make_model(), data_of(one, two))


def test_channels_lengths_and_controls(world: Path, tmp_path: Path) -> None:
    narrow = write_data(tmp_path / "narrow", latent_shape=[8, 3, 4, 4])
    with pytest.raises(ConfigError, match=r"latent_channels=16, but .*latent_channels=8"):
        check_belonging(make_model(), data_of(narrow))
    wide = write_data(tmp_path / "wide", text_encoder={**TEXT, "dim": 1024})
    with pytest.raises(ConfigError, match="text_channels=12"):
        check_belonging(make_model(), data_of(wide))
    with pytest.raises(ConfigError, match=r"texts of 512 tokens, 'this run' of 32"):
        check_belonging(make_model(), data_of(), world, text_length=32)
    config = json.loads((world / "config.json").read_text())
    config["controls"] = [{"name": "action", "options": {"std": [3.0]}}]
    (world / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match="steered by the control 'action', but this run has no"):
        check_belonging(make_model(), data_of(), world)
    model = make_model()
    model.controls = (ControlSpec("action", {"std": [1.0]}),)
    with pytest.raises(ConfigError, match=r"std=\[3.0\] in .*std=\[1.0\] in 'this run'"):
        check_belonging(model, data_of(), world)


def test_weights_of_another_kind(world: Path) -> None:
    for allowed in ([], ["model"]):  # no such weights load, so nobody can mean it
        with pytest.raises(ConfigError, match=r"is a tokenizer, but .*<run>/export"):
            check_belonging(make_model(), data_of(), world / "tokenizer", allowed)
    tokenizer = TokenizerModel(TOKENIZERS["tokenizer_nano_cv4x8x8"])
    with pytest.raises(ConfigError, match=r"is a world, but this recipe trains a tokenizer"):
        check_belonging(tokenizer, data_of(), world)
    with pytest.raises(ConfigError, match="has channels=8, but 'this run' has channels=32"):
        check_belonging(tokenizer, data_of(), world / "tokenizer")


def test_a_control_is_added_to_a_world_and_not_to_a_checkpoint(world: Path, tmp_path: Path) -> None:
    checkpoint = tmp_path / "step=000004"
    checkpoint.mkdir()
    (checkpoint / "nemo_cosmos.json").write_text((world / "config.json").read_text())
    model = make_model()
    model.controls = (ControlSpec("action"),)
    check_belonging(model, data_of(), world)
    check_belonging(make_model(), data_of(), checkpoint)
    with pytest.raises(ConfigError, match=r"nemo-cosmos import \S*step=000004 WORLD"):
        check_belonging(model, data_of(), checkpoint)
