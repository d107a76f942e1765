"""FID's Inception: against the program of the file it comes from, and TensorFlow's resize."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nemo_cosmos.assets import asset_path
from nemo_cosmos.errors import AssetError
from nemo_cosmos.perception.inception import (
    Inception,
    inception_features,
    load_inception,
    prepare_frames,
)


@pytest.fixture(scope="module")
def network() -> Inception:
    try:
        asset_path("inception_2015")
    except AssetError as error:
        pytest.skip(f"the Inception weights are unavailable: {error}")
    return load_inception()


def noise(shape: tuple[int, ...]) -> np.ndarray:
    # Smooth, so that features are of a size as pictures give.
    coarse = torch.rand(shape[0], 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 255
    fine = torch.nn.functional.interpolate(coarse, shape[1:], mode="bicubic").clamp(0, 255)
    return fine.permute(0, 2, 3, 1).byte().numpy()


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_the_features_are_those_of_the_torchscript_program(network):
    program = torch.jit.load(asset_path("inception_2015"))
    frames = noise((2, 299, 299))
    x_NCHW = (torch.from_numpy(frames).permute(0, 3, 1, 2).float() - 128) / 128
    with torch.inference_mode():
        expected = program(x_NCHW).numpy()
    found = inception_features(frames, network)
    assert found.shape == (2, 2048)
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize("size", [(40, 56), (299, 299), (480, 640)])
def test_frames_are_resized_as_tensorflow_1_does(size):
    # Its sampling written as a grid: output pixel i looks at input i * size / 299, top left fixed.
    frames = torch.from_numpy(noise((1, *size))).permute(0, 3, 1, 2).double()
    theta = torch.eye(2, 3, dtype=torch.float64)
    for axis, length in enumerate(reversed(size)):
        theta[axis, 2] = 1 / length - 1 / 299
    grid = torch.nn.functional.affine_grid(theta[None], [1, 3, 299, 299], align_corners=False)
    expected = torch.nn.functional.grid_sample(
        frames, grid, mode="bilinear", padding_mode="border", align_corners=False
    )
    found = prepare_frames(frames) * 128 + 128
    assert (found.double() - expected).abs().max() < 1e-3


def test_bytes_become_numbers_below_one():
    white = torch.full((1, 3, 299, 299), 255, dtype=torch.uint8)
    assert prepare_frames(white).unique().tolist() == [127 / 128]
