"""TransNetV2, a network that finds shot boundaries, with the weights that a package carries.

Soucek and Lokoc, "TransNet V2: An effective deep network architecture for fast shot transition
detection" (arXiv:2008.04838): three stages of dilated 3-D convolutions over 100 frames of 48 x 27
pixels, joined by how similar each frame's features and colour histogram are to those of the 50
frames before and after it. Shapes: B batch, T frames, C channels, H W pixels, D features.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from data_curation.shots.transition import Transition
from nemo_cosmos.assets import asset_path
from nemo_cosmos.platform import default_device
from nemo_cosmos.video import Source, decode

FRAME_SIZE = (27, 48)
#: Frames that the network sees at once; the middle ones of each window are kept.
WINDOW, STEP = 100, 50
_MARGIN = (WINDOW - STEP) // 2
#: Probability from which a frame counts as part of a transition, as in the Cosmos paper.
THRESHOLD = 0.4
_DILATIONS = (1, 2, 4, 8)
_LOOKUP = 101


class _DilatedConv(nn.Module):
    """A 3-D convolution taken apart into one over space and a dilated one over time."""

    def __init__(self, in_channels: int, channels: int, dilation: int) -> None:
        super().__init__()
        space = nn.Conv3d(in_channels, 2 * channels, (1, 3, 3), padding=(0, 1, 1), bias=False)
        time = nn.Conv3d(
            2 * channels,
            channels,
            (3, 1, 1),
            dilation=(dilation, 1, 1),
            padding=(dilation, 0, 0),
            bias=False,
        )
        self.layers = nn.ModuleList([space, time])

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        for layer in self.layers:
            x_BCTHW = layer(x_BCTHW)
        return x_BCTHW


class _DilatedBlock(nn.Module):
    """Four such convolutions side by side, from one frame apart to eight."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        for dilation in _DILATIONS:
            self.add_module(f"Conv3D_{dilation}", _DilatedConv(in_channels, channels, dilation))
        self.bn = nn.BatchNorm3d(4 * channels, eps=1e-3)

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        parts = [self.get_submodule(f"Conv3D_{dilation}")(x_BCTHW) for dilation in _DILATIONS]
        return self.bn(torch.cat(parts, dim=1))


class _Stage(nn.Module):
    """Two blocks with a shortcut around the second, then half the resolution."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__()
        blocks = [_DilatedBlock(in_channels, channels), _DilatedBlock(4 * channels, channels)]
        self.DDCNN = nn.ModuleList(blocks)

    def forward(self, x_BCTHW: Tensor) -> Tensor:
        shortcut_BCTHW = F.relu(self.DDCNN[0](x_BCTHW))
        x_BCTHW = F.relu(self.DDCNN[1](shortcut_BCTHW))
        return F.avg_pool3d(x_BCTHW + shortcut_BCTHW, (1, 2, 2))


class _Lookup(nn.Module):
    """From each frame's similarity to its neighbours in time to features."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(_LOOKUP, 128)

    def neighbours(self, x_BTD: Tensor) -> Tensor:
        """Features of the dot products with the 50 frames on either side; 0 beyond the ends."""
        similarity_BTT = x_BTD @ x_BTD.transpose(1, 2)
        num_frames, reach = x_BTD.shape[1], _LOOKUP // 2
        padded = F.pad(similarity_BTT, (reach, reach))
        rows = torch.arange(num_frames, device=x_BTD.device)[:, None]
        columns = rows + torch.arange(_LOOKUP, device=x_BTD.device)
        return F.relu(self.fc(padded[:, rows, columns]))


class _FeatureSimilarity(_Lookup):
    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.projection = nn.Linear(in_channels, 128)

    def forward(self, stages_BCTHW: list[Tensor]) -> Tensor:
        x_BTD = torch.cat([x.mean(dim=(3, 4)) for x in stages_BCTHW], dim=1).transpose(1, 2)
        return self.neighbours(F.normalize(self.projection(x_BTD), dim=2))


class _ColourSimilarity(_Lookup):
    def forward(self, frames_BTHWC: Tensor) -> Tensor:
        bins = (frames_BTHWC >> 5).long()
        bins = (bins[..., 0] << 6) + (bins[..., 1] << 3) + bins[..., 2]
        counts_BTD = torch.zeros((*bins.shape[:2], 512), device=bins.device)
        flat = bins.flatten(2)
        counts_BTD.scatter_add_(2, flat, torch.ones_like(flat, dtype=counts_BTD.dtype))
        return self.neighbours(F.normalize(counts_BTD, dim=2))


class TransNetV2(nn.Module):
    """Logits that each frame is the middle of a transition; names follow the released weights."""

    def __init__(self) -> None:
        super().__init__()
        channels = (16, 32, 64)
        inputs = (3, 64, 128)
        self.SDDCNN = nn.ModuleList(map(_Stage, inputs, channels))
        self.frame_sim_layer = _FeatureSimilarity(4 * sum(channels))
        self.color_hist_layer = _ColourSimilarity()
        self.fc1 = nn.Linear(128 + 128 + 4 * channels[-1] * 3 * 6, 1024)
        self.cls_layer1 = nn.Linear(1024, 1)
        # The second head, which marks all frames of a transition, is trained but not asked.
        self.cls_layer2 = nn.Linear(1024, 1)

    def forward(self, frames_BTHWC: Tensor) -> Tensor:
        """Logits ``(B, T)`` of uint8 RGB frames ``(B, T, 27, 48, 3)``."""
        x_BCTHW = frames_BTHWC.permute(0, 4, 1, 2, 3).float() / 255
        stages = []
        for stage in self.SDDCNN:
            x_BCTHW = stage(x_BCTHW)
            stages.append(x_BCTHW)
        x_BTD = x_BCTHW.permute(0, 2, 3, 4, 1).flatten(2)
        similar = [self.color_hist_layer(frames_BTHWC), self.frame_sim_layer(stages)]
        hidden_BTD = F.relu(self.fc1(torch.cat([*similar, x_BTD], dim=2)))
        return self.cls_layer1(hidden_BTD)[..., 0]


@cache
def load_transnetv2() -> TransNetV2:
    """The network with its released weights, on this process's device.

    Raises:
        AssetError: the weights are unavailable.
    """
    network = TransNetV2()
    weights = torch.load(asset_path("transnetv2_weights"), map_location="cpu", weights_only=True)
    network.load_state_dict(weights)
    return network.eval().to(default_device())


@torch.inference_mode()
def probabilities(frames_THWC: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Probability ``(T,)`` of a transition at each frame.

    Args:
        frames_THWC: RGB frames of 27 x 48 pixels.
    """
    network = load_transnetv2()
    device = next(network.parameters()).device
    num_frames = len(frames_THWC)
    if num_frames == 0:
        return np.zeros(0, dtype=np.float32)
    after = _MARGIN + (-num_frames) % STEP
    padding = ((_MARGIN, after), (0, 0), (0, 0), (0, 0))
    padded_THWC = torch.from_numpy(np.pad(frames_THWC, padding, mode="edge")).to(device)
    logits = [
        network(padded_THWC[None, start : start + WINDOW])[0, _MARGIN : _MARGIN + STEP]
        for start in range(0, num_frames, STEP)
    ]
    return torch.sigmoid(torch.cat(logits))[:num_frames].cpu().numpy()


def detect_shots(source: Source, threshold: float = THRESHOLD) -> list[Transition]:
    """Transitions of a video file, in order; each covers the frames above the threshold.

    Raises:
        MissingFileError: nothing readable is there.
        VideoError: it is not a video, or is damaged.
        AssetError: the weights are unavailable.
    """
    return transitions_of(decode(source, size=FRAME_SIZE).frames_THWC, threshold)


def transitions_of(
    frames_THWC: NDArray[np.uint8], threshold: float = THRESHOLD
) -> list[Transition]:
    """Transitions between small frames; see :func:`probabilities`."""
    return to_transitions(probabilities(frames_THWC) > threshold)


def to_transitions(is_transition_T: NDArray[np.bool_]) -> list[Transition]:
    """Stretches of true. The network marks the last frame before a cut, which is dropped."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], is_transition_T, [False]])))
    return [Transition(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=True)]
