"""The builders of tiny data and worlds write what the real commands write."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from nemo_cosmos.checkpoint.world.folder import load_world
from nemo_cosmos.data.modules import LatentDataModule
from nemo_cosmos.testing.tiny import Clips, tiny_tokenizer, write_latents, write_world
from nemo_cosmos.training.weights.export import read_world_info


def test_latents_load_and_name_their_tokenizer(tmp_path: Path) -> None:
    clips = Clips(num_samples=3, with_actions=True, height=48)
    folder = write_latents(tmp_path / "data", clips)
    data = LatentDataModule(str(folder), text_length=4, controls=["action"])
    batch = next(iter(data.train_dataloader()))
    assert batch["latent"].shape[1:] == clips.latent_shape
    assert batch["action"].shape[1:] == (clips.num_frames - 1, 7)
    assert batch["t5_text_embeddings"].shape[1:] == (4, clips.text_dim)
    info = read_world_info(folder, clips.fps)
    assert info.video == {"num_frames": 9, "fps": 10.0, "height": 48, "width": 32}
    assert (Path(info.tokenizer) / "config.json").is_file()
    again = write_latents(tmp_path / "again", clips)
    assert [file.read_bytes() for file in sorted(again.rglob("*.tar"))] == [
        file.read_bytes() for file in sorted(folder.rglob("*.tar"))
    ]


def test_a_tokenizer_has_the_factors_of_its_preset() -> None:
    tokenizer = tiny_tokenizer()
    video_BCTHW = torch.zeros(1, 3, 9, 32, 48)
    assert tokenizer.encode(video_BCTHW).shape[1:] == Clips(width=48).latent_shape


def test_a_world_loads(tmp_path: Path) -> None:
    world = load_world(write_world(tmp_path / "world", controls=["action"], num_layers=1))
    assert [spec.name for spec in world.config.controls] == ["action"]
    weights = np.concatenate([w.flatten().numpy() for w in world.net.parameters()])
    assert 0.05 < weights.std() < 0.15
