"""The aesthetic score of the reference: CLIP's image embedding into a small network.

The head is that of ``ttj/sac-logos-ava1-l14-linearMSE``, five linear layers without a non-linearity
between them, trained on ratings from 1 to 10. Neither it nor CLIP ViT-L/14 is carried by a package;
both are read from paths.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from nemo_cosmos.errors import CheckpointError, ConfigError
from nemo_cosmos.perception.encoders import load_encoder
from nemo_cosmos.platform import default_device


class AestheticHead(nn.Module):
    """Score of L2-normalised embeddings; the names are those of the released checkpoint."""

    def __init__(self, num_features: int = 768) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(num_features, 1024),
            nn.Dropout(0.2),
            nn.Linear(1024, 128),
            nn.Dropout(0.2),
            nn.Linear(128, 64),
            nn.Dropout(0.1),
            nn.Linear(64, 16),
            nn.Linear(16, 1),
        )

    def forward(self, x_BD: torch.Tensor) -> torch.Tensor:
        """``(B,)`` scores of ``(B, D)`` embeddings."""
        return self.layers(x_BD)[:, 0]


@lru_cache(maxsize=2)
def load_head(path: Path) -> AestheticHead:
    """Read a head from ``.safetensors``, ``.pth`` or ``.pt`` (tensors only).

    Raises:
        ConfigError: there is no such file.
        CheckpointError: it holds no such head.
    """
    if not path.is_file():
        raise ConfigError(
            f"There is no aesthetic head '{path}'. Expected the file model.safetensors of "
            "ttj/sac-logos-ava1-l14-linearMSE, or one of the same format."
        )
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            weights = load_file(path)
        else:
            weights = torch.load(path, map_location="cpu", weights_only=True)
        head = AestheticHead(weights["layers.0.weight"].shape[1])
        head.load_state_dict(weights)
    except Exception as error:
        raise CheckpointError(
            f"'{path}' holds no aesthetic head: {error}. Expected the tensors layers.N.weight and "
            "layers.N.bias of ttj/sac-logos-ava1-l14-linearMSE."
        ) from error
    return head.eval().to(default_device())


def aesthetic_scores(
    frames_THWC: NDArray[np.uint8], clip_model: str, head: Path
) -> NDArray[np.float32]:
    """Scores ``(T,)`` of RGB frames, about 1 to 10.

    Args:
        frames_THWC: frames of any size.
        clip_model: folder of a CLIP model of ``transformers``.
        head: file of the head.
    """
    features_TD = torch.from_numpy(load_encoder(clip_model).encode(frames_THWC))
    network = load_head(head)
    expected = network.layers[0].in_features
    if features_TD.shape[1] != expected:
        raise CheckpointError(
            f"The aesthetic head '{head}' takes {expected} features, but '{clip_model}' gives "
            f"{features_TD.shape[1]}. Use the CLIP model that it was trained on."
        )
    normal_TD = nn.functional.normalize(features_TD.to(default_device()), dim=1)
    with torch.inference_mode():
        return np.asarray(network(normal_TD).float().cpu().numpy(), dtype=np.float32)
