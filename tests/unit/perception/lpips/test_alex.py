"""AlexNet's features: the weights of the package against independent copies and computations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from nemo_cosmos.assets import asset_path
from nemo_cosmos.errors import AssetError
from nemo_cosmos.perception.lpips.alex import AlexNetFeatures, load_alexnet_features
from nemo_cosmos.perception.weights import read_array_pickle


@pytest.fixture(scope="module")
def features() -> AlexNetFeatures:
    try:
        asset_path("lpips_alexnet")
    except AssetError as error:
        pytest.skip(f"the AlexNet weights are unavailable: {error}")
    return load_alexnet_features()


def test_the_heads_are_those_of_another_distribution_of_lpips(features):
    torchmetrics = pytest.importorskip("torchmetrics")
    folder = Path(torchmetrics.__file__).parent / "functional" / "image" / "lpips_models"
    published = torch.load(folder / "alex.pth", map_location="cpu", weights_only=True)
    for index, head in enumerate(features.heads):
        torch.testing.assert_close(head.weight, published[f"lin{index}.model.1.weight"])


def convolve(x_HWC: np.ndarray, layer: dict, stride: int, padding: int) -> np.ndarray:
    """Convolution and ReLU in NumPy and float64, with JAX's (H,W,I,O) kernels."""
    kernel = layer["kernel"].astype(np.float64)
    padded = np.pad(x_HWC, ((padding, padding), (padding, padding), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, kernel.shape[:2], axis=(0, 1))
    windows = windows[::stride, ::stride]
    return np.maximum(np.einsum("hwcij,ijco->hwo", windows, kernel) + layer["bias"], 0)


def pool(x_HWC: np.ndarray) -> np.ndarray:
    windows = np.lib.stride_tricks.sliding_window_view(x_HWC, (3, 3), axis=(0, 1))
    return windows[::2, ::2].max(axis=(3, 4))


def test_the_distance_equals_the_papers_written_out_in_numpy(features):
    tree = read_array_pickle(asset_path("lpips_alexnet"))
    layers = [tree["AlexNet_0"][f"Conv_{index}"] for index in range(5)]
    frames = np.random.default_rng(0).uniform(-1, 1, (2, 40, 33, 3))
    maps = []
    for frame in frames:
        x = (frame - [-0.030, -0.088, -0.188]) / [0.458, 0.448, 0.450]
        of_one = []
        for index, (stride, padding) in enumerate([(4, 2), (1, 2), (1, 1), (1, 1), (1, 1)]):
            x = convolve(pool(x) if index in (1, 2) else x, layers[index], stride, padding)
            of_one.append(x / (np.linalg.norm(x, axis=-1, keepdims=True) + 1e-10))
        maps.append(of_one)
    expected = 0.0
    for index, (x, y) in enumerate(zip(*maps, strict=True)):
        weights = tree[f"NetLinLayer_{index}"]["Conv_0"]["kernel"][0, 0, :, 0]
        expected += (((x - y) ** 2) @ weights).mean()
    first, second = torch.from_numpy(frames).float().permute(0, 3, 1, 2).split(1)
    distance = features.lpips(features(first), features(second)).item()
    assert distance == pytest.approx(expected, rel=1e-4)


def test_the_smallest_frame_leaves_something_of_the_coarsest_map(features):
    side = features.min_side_px
    assert features(torch.zeros(1, 3, side, side))[-1].shape[2:] == (1, 1)
    with pytest.raises(RuntimeError):
        features(torch.zeros(1, 3, side - 1, side - 1))
