from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import EntryPoint
from typing import Any, Self

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from nemo_cosmos.errors import ConfigError
from nemo_cosmos.models.diffusion import controls as control
from nemo_cosmos.models.diffusion.controls import Control, ControlEmbedding, NetworkDims

DIMS = NetworkDims(hidden_size=32, context_size=16, temporal_factor=4, spatial_factor=8)


class SpeedControl(Control):
    """A user's control: one file, one class."""

    sidecars = ("speed.npy",)

    def __init__(self, hidden_size: int, gain: float = 1.0) -> None:
        super().__init__()
        self.project = nn.Linear(1, hidden_size)
        self.gain = gain

    @classmethod
    def build(cls, dims: NetworkDims, **options: Any) -> Self:
        return cls(dims.hidden_size, **options)

    @classmethod
    def read(
        cls, sidecars: Mapping[str, Any], first_frame: int, num_frames: int
    ) -> dict[str, np.ndarray]:
        return {"speed": sidecars["speed.npy"][first_frame : first_frame + num_frames]}

    def forward(
        self, batch: Mapping[str, Tensor], latent_shape_BCTHW: tuple[int, ...]
    ) -> ControlEmbedding:
        mean_B1 = self.gain * batch["speed"].mean(dim=1, keepdim=True)
        return ControlEmbedding(timestep_BTD=self.project(mean_B1)[:, None])


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("speed", f"{__name__}:SpeedControl", control.ENTRY_POINT_GROUP)
    monkeypatch.setattr(EntryPoint, "load", lambda self: SpeedControl)
    monkeypatch.setattr(control, "entry_points", lambda group: [point])


@pytest.mark.usefixtures("registered")
def test_a_registered_control_is_built_by_name_with_options() -> None:
    built = control.build_control("speed", DIMS, {"gain": 2.0})
    assert isinstance(built, SpeedControl) and built.gain == 2.0
    batch = {key: torch.from_numpy(value)[None] for key, value in read_speed().items()}
    assert built(batch, (1, 16, 2, 4, 4)).timestep_BTD.shape == (1, 1, 32)


def read_speed() -> dict[str, np.ndarray]:
    return SpeedControl.read({"speed.npy": np.arange(10, dtype=np.float32)}, 2, 5)


@pytest.mark.usefixtures("registered")
def test_unknown_control_names_the_installed_ones() -> None:
    with pytest.raises(ConfigError, match="'speed'"):
        control.control_class("sped")


@pytest.mark.usefixtures("registered")
def test_options_that_a_control_does_not_take() -> None:
    with pytest.raises(ConfigError, match="colour"):
        control.build_control("speed", DIMS, {"colour": "red"})


def test_action_is_registered_by_the_package() -> None:
    assert control.available_controls()["action"] == "post_training.robotics.action:ActionControl"
    assert control.control_class("action").sidecars == ("action.npy",)


def test_masking_zeroes_every_part_of_the_dropped_samples() -> None:
    embedding = ControlEmbedding(
        latent_channels_BCTHW=torch.ones(2, 3, 1, 2, 2), timestep_BTD=torch.ones(2, 1, 4)
    )
    masked = control.mask_embedding(embedding, torch.tensor([0.0, 1.0]))
    assert masked.latent_channels_BCTHW is not None and masked.timestep_BTD is not None
    assert masked.latent_channels_BCTHW.sum(dim=(1, 2, 3, 4)).tolist() == [0, 12]
    assert masked.timestep_BTD[:, 0, 0].tolist() == [0, 1]
    assert masked.adaln_lora_BT3D is None and masked.context_BLD is None
