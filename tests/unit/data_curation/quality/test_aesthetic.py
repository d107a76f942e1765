"""The aesthetic head in the reference's format, on a tiny CLIP of random weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from data_curation.quality.aesthetic import AestheticHead, aesthetic_scores, load_head
from nemo_cosmos.errors import CheckpointError, ConfigError

FEATURES = 24


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory) -> Path:
    from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models") / "tiny-clip-for-aesthetics"
    config = CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=32,
        projection_dim=FEATURES,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=32,
        patch_size=16,
    )
    CLIPVisionModelWithProjection(config).save_pretrained(folder)
    size = {"height": 32, "width": 32}
    CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=size).save_pretrained(folder)
    return folder


def test_names_and_shapes_are_those_of_the_released_head():
    shapes = {name: tuple(value.shape) for name, value in AestheticHead().state_dict().items()}
    assert shapes["layers.0.weight"] == (1024, 768)
    assert shapes["layers.7.weight"] == (1, 16)
    assert sorted(shapes) == sorted(
        f"layers.{number}.{kind}" for number in (0, 2, 4, 6, 7) for kind in ("weight", "bias")
    )


@pytest.mark.parametrize("ending", ["safetensors", "pth"])
def test_scores_are_the_product_of_the_layers(tmp_path, clip_folder, ending):
    from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection

    torch.manual_seed(1)
    weights = AestheticHead(FEATURES).state_dict()
    path = tmp_path / f"head.{ending}"
    save_file(weights, path) if ending == "safetensors" else torch.save(weights, path)
    frames = np.random.default_rng(0).integers(0, 256, (3, 40, 40, 3), dtype=np.uint8)
    found = aesthetic_scores(frames, str(clip_folder), path)
    pixels = CLIPImageProcessor.from_pretrained(clip_folder)(list(frames), return_tensors="pt")
    network = CLIPVisionModelWithProjection.from_pretrained(clip_folder).eval()
    with torch.inference_mode():
        x = network(**pixels).image_embeds
    x = x / x.norm(dim=1, keepdim=True)
    for number in (0, 2, 4, 6, 7):
        x = x @ weights[f"layers.{number}.weight"].T + weights[f"layers.{number}.bias"]
    assert found == pytest.approx(x[:, 0].numpy(), abs=1e-5)


def test_what_is_no_head(tmp_path, clip_folder):
    with pytest.raises(ConfigError, match="no aesthetic head"):
        load_head(tmp_path / "nowhere.safetensors")
    save_file({"weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match="holds no aesthetic head"):
        load_head(tmp_path / "other.safetensors")
    save_file(AestheticHead(7).state_dict(), tmp_path / "seven.safetensors")
    frames = np.zeros((1, 40, 40, 3), dtype=np.uint8)
    with pytest.raises(CheckpointError, match="takes 7 features"):
        aesthetic_scores(frames, str(clip_folder), tmp_path / "seven.safetensors")
