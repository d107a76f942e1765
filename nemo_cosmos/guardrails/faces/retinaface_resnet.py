"""The reference's face detector: RetinaFace on ResNet-50, in its own checkpoint format.

``Resnet50_Final.pth`` is what the Cosmos guardrail calls ``face_blur_filter``. The network is
RetinaFace (Deng et al. 2019, arXiv:1905.00641): a ResNet-50 body (He et al. 2015), a feature
pyramid of 256 channels on strides 8, 16 and 32, a context module at each level (SSH, Najibi et al.
2017), and heads for class, box and five landmarks of two priors at every cell.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, relu

from nemo_cosmos.guardrails.faces.boxes import Face, decode_faces
from nemo_cosmos.guardrails.faces.retinaface_mobile import network_input
from nemo_cosmos.perception.weights import load_exactly, read_state
from nemo_cosmos.platform import default_device

WHAT = "RetinaFace on ResNet-50"
NUM_PRIORS = 2
PYRAMID_WIDTH = 256
_STAGES = ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2))  # width, blocks, stride


class ResNetRetinaFace:
    """Finds faces in one frame at a time.

    Args:
        checkpoint: ``Resnet50_Final.pth``, or the same tensors as safetensors.

    Raises:
        CheckpointError: the file is not that checkpoint.
    """

    def __init__(self, checkpoint: Path) -> None:
        net = RetinaFaceNet()
        load_exactly(net, read_state(checkpoint, WHAT), checkpoint, WHAT)
        self._device = default_device()
        self._net = net.to(self._device).eval()

    def __call__(self, frame_HWC: np.ndarray) -> list[Face]:
        """Return the faces of an RGB frame, uint8 ``(H,W,3)``."""
        picture_BCHW = network_input(frame_HWC, scale=1.0)
        with torch.inference_mode():
            loc_BN4, face_BN2 = self._net(torch.from_numpy(picture_BCHW).to(self._device))
        face_N = face_BN2[0].softmax(-1)[:, 1].cpu().numpy()
        return decode_faces(loc_BN4[0].cpu().numpy(), face_N, *picture_BCHW.shape[2:])


class RetinaFaceNet(nn.Module):
    """The network; its parts are named as in the checkpoint."""

    def __init__(self) -> None:
        super().__init__()
        self.body = Body()
        self.fpn = Pyramid()
        for level in (1, 2, 3):
            self.add_module(f"ssh{level}", Context())
        self.ClassHead = _heads(2)
        self.BboxHead = _heads(4)
        self.LandmarkHead = _heads(10)

    def forward(self, picture_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Return offsets ``(B,N,4)`` and logits of no face and face ``(B,N,2)`` for every prior."""
        levels = self.fpn(self.body(picture_BCHW))
        levels = [self.get_submodule(f"ssh{n}")(x) for n, x in enumerate(levels, start=1)]
        loc = [head(x) for head, x in zip(self.BboxHead, levels, strict=True)]
        face = [head(x) for head, x in zip(self.ClassHead, levels, strict=True)]
        return torch.cat(loc, dim=1), torch.cat(face, dim=1)


class Body(nn.Module):
    """ResNet-50 without its classifier; returns the features of strides 8, 16 and 32."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        in_width = 64
        for number, (width, blocks, stride) in enumerate(_STAGES, start=1):
            stage = [Bottleneck(in_width, width, stride)]
            stage += [Bottleneck(4 * width, width) for _ in range(blocks - 1)]
            self.add_module(f"layer{number}", nn.Sequential(*stage))
            in_width = 4 * width

    def forward(self, x_BCHW: Tensor) -> list[Tensor]:
        """Return the features of three strides."""
        x_BCHW = self.pool(relu(self.bn1(self.conv1(x_BCHW))))
        features = []
        for number in range(1, len(_STAGES) + 1):
            x_BCHW = self.get_submodule(f"layer{number}")(x_BCHW)
            features.append(x_BCHW)
        return features[1:]


class Bottleneck(nn.Module):
    """A residual block of 1x1, 3x3 and 1x1 convolutions."""

    def __init__(self, in_width: int, width: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_width, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.downsample = (
            _conv_norm(in_width, 4 * width, 1, stride)
            if stride != 1 or in_width != 4 * width
            else None
        )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Apply the block."""
        skip = x_BCHW if self.downsample is None else self.downsample(x_BCHW)
        x_BCHW = relu(self.bn1(self.conv1(x_BCHW)))
        x_BCHW = relu(self.bn2(self.conv2(x_BCHW)))
        return relu(self.bn3(self.conv3(x_BCHW)) + skip)


class Pyramid(nn.Module):
    """Brings all strides to one width, and adds the coarser features to the finer ones."""

    def __init__(self) -> None:
        super().__init__()
        for level, (width, _, _) in enumerate(_STAGES[1:], start=1):
            self.add_module(f"output{level}", _conv_norm_relu(4 * width, PYRAMID_WIDTH, 1))
        self.merge1 = _conv_norm_relu(PYRAMID_WIDTH, PYRAMID_WIDTH, 3)
        self.merge2 = _conv_norm_relu(PYRAMID_WIDTH, PYRAMID_WIDTH, 3)

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """Return the features of three strides, the finest first."""
        fine, middle, coarse = (
            self.get_submodule(f"output{level}")(x) for level, x in enumerate(features, start=1)
        )
        middle = self.merge2(middle + interpolate(coarse, size=middle.shape[2:]))
        fine = self.merge1(fine + interpolate(middle, size=fine.shape[2:]))
        return [fine, middle, coarse]


class Context(nn.Module):
    """Receptive fields of 3, 5 and 7 cells side by side (SSH)."""

    def __init__(self) -> None:
        super().__init__()
        half, quarter = PYRAMID_WIDTH // 2, PYRAMID_WIDTH // 4
        self.conv3X3 = _conv_norm(PYRAMID_WIDTH, half, 3)
        self.conv5X5_1 = _conv_norm_relu(PYRAMID_WIDTH, quarter, 3)
        self.conv5X5_2 = _conv_norm(quarter, quarter, 3)
        self.conv7X7_2 = _conv_norm_relu(quarter, quarter, 3)
        self.conv7x7_3 = _conv_norm(quarter, quarter, 3)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return the channels of the three fields, concatenated."""
        shared = self.conv5X5_1(x_BCHW)
        fields = [
            self.conv3X3(x_BCHW),
            self.conv5X5_2(shared),
            self.conv7x7_3(self.conv7X7_2(shared)),
        ]
        return relu(torch.cat(fields, dim=1))


class Head(nn.Module):
    """One 1x1 convolution with ``num_values`` outputs for every prior."""

    def __init__(self, num_values: int) -> None:
        super().__init__()
        self.num_values = num_values
        self.conv1x1 = nn.Conv2d(PYRAMID_WIDTH, NUM_PRIORS * num_values, 1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return values ``(B,N,num_values)``, cell by cell, and within a cell prior by prior."""
        x_BHWC = self.conv1x1(x_BCHW).permute(0, 2, 3, 1)
        return x_BHWC.reshape(len(x_BHWC), -1, self.num_values)


def _heads(num_values: int) -> nn.ModuleList:
    return nn.ModuleList(Head(num_values) for _ in range(3))


def _conv_norm(in_width: int, width: int, kernel: int, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(in_width, width, kernel, stride=stride, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(width))


def _conv_norm_relu(in_width: int, width: int, kernel: int) -> nn.Sequential:
    return _conv_norm(in_width, width, kernel).append(nn.ReLU())
