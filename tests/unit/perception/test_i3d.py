"""I3D against its layers written out in another form, from the package's own arrays."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from nemo_cosmos.assets import asset_path
from nemo_cosmos.errors import AssetError
from nemo_cosmos.perception.i3d import I3D, MIN_FRAMES, load_i3d
from nemo_cosmos.perception.weights import read_array_pickle


@pytest.fixture(scope="module")
def network() -> I3D:
    try:
        asset_path("i3d_kinetics400")
    except AssetError as error:
        pytest.skip(f"the I3D weights are unavailable: {error}")
    return load_i3d()


class Reference:
    """The network from its paper's table: norms apart, padding at indices, channels last."""

    def __init__(self) -> None:
        tree = read_array_pickle(asset_path("i3d_kinetics400"))
        self.weights, self.statistics = tree["params"], tree["batch_stats"]

    def unit(self, x: torch.Tensor, *path: str, stride: int = 1) -> torch.Tensor:
        layer, norm = self.weights, self.statistics
        for name in path:
            layer, norm = layer[name], norm[name]
        kernel = torch.tensor(layer["Conv_0"]["kernel"]).permute(4, 3, 0, 1, 2)
        x = F.conv3d(self.padded(x, kernel.shape[2:], (stride,) * 3), kernel, stride=stride)
        mean, variance = (torch.tensor(norm["BatchNorm_0"][k]).flatten() for k in ("mean", "var"))
        shift = torch.tensor(layer["BatchNorm_0"]["bias"]).flatten()
        return F.batch_norm(x, mean, variance, bias=shift, eps=1e-3).relu()

    @staticmethod
    def padded(x, kernel, stride, value=0.0):
        """TensorFlow's SAME: the output has ceil(size / stride), the odd pad goes behind."""
        for dim, (width, step) in enumerate(zip(kernel, stride, strict=True), start=2):
            size = x.shape[dim]
            out = int(np.ceil(size / step))
            total = max((out - 1) * step + width - size, 0)
            front = torch.full_like(x.narrow(dim, 0, 1), value)
            parts = [front] * (total // 2) + [x] + [front] * (total - total // 2)
            x = torch.cat(parts, dim)
        return x

    def pool(self, x, kernel, stride):
        return F.max_pool3d(self.padded(x, kernel, stride, -np.inf), kernel, stride)

    def block(self, x: torch.Tensor, name: str) -> torch.Tensor:
        branches = [self.unit(x, name, "Branch_0/Conv3d_0a_1x1")]
        for branch in (1, 2):
            reduced = self.unit(x, name, f"Branch_{branch}/Conv3d_0a_1x1")
            branches.append(self.unit(reduced, name, f"Branch_{branch}/Conv3d_0b_3x3"))
        pooled = self.pool(x, (3, 3, 3), (1, 1, 1))
        branches.append(self.unit(pooled, name, "Branch_3/Conv3d_0b_1x1"))
        return torch.cat(branches, 1)

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        x = self.pool(self.unit(x, "Conv3d_1a_7x7", stride=2), (1, 3, 3), (1, 2, 2))
        x = self.unit(self.unit(x, "Conv3d_2b_1x1"), "Conv3d_2c_3x3")
        x = self.pool(x, (1, 3, 3), (1, 2, 2))
        x = self.block(self.block(x, "Mixed_3b"), "Mixed_3c")
        x = self.pool(x, (3, 3, 3), (2, 2, 2))
        for letter in "bcdef":
            x = self.block(x, f"Mixed_4{letter}")
        x = self.pool(x, (2, 2, 2), (2, 2, 2))
        x = self.block(self.block(x, "Mixed_5b"), "Mixed_5c")
        last = self.weights["Logits/Conv3d_0c_1x1"]["Conv_0"]
        windows = x.unfold(2, 2, 1).mean((3, 4, 5))  # 7x7 pixels and two frames
        return (windows.transpose(1, 2) @ torch.tensor(last["kernel"][0, 0, 0])).mean(1) + (
            torch.tensor(last["bias"])
        )


@pytest.mark.parametrize("num_frames", [16, MIN_FRAMES])
def test_logits_are_those_of_the_reference(network, num_frames):
    coarse = torch.rand(1, 3, 4, 7, 7, generator=torch.Generator().manual_seed(1)) * 2 - 1
    clip = F.interpolate(coarse, (num_frames, 224, 224), mode="trilinear")
    with torch.inference_mode():
        found, expected = network(clip), Reference().logits(clip)
    assert found.shape == (1, 400)
    assert (found - expected).abs().max() < 1e-4 * expected.abs().max()


def test_fewer_frames_leave_nothing(network):
    with pytest.raises(RuntimeError):
        network(torch.zeros(1, 3, MIN_FRAMES - 1, 224, 224))
