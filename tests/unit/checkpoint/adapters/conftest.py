"""A tiny world, and adapters of random factors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from nemo_cosmos.checkpoint.adapters.folder import AdapterConfig, save_adapter, weights_sha256
from nemo_cosmos.checkpoint.world.config import read_config
from nemo_cosmos.checkpoint.world.folder import open_weights
from nemo_cosmos.testing.tiny import write_world

MakeAdapter = Callable[..., Path]


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_world(tmp_path_factory.mktemp("base") / "world")


@pytest.fixture
def make_adapter(base: Path, tmp_path: Path) -> MakeAdapter:
    """Write an adapter of every projection of the layers."""

    def make(
        name: str = "adapter",
        seed: int = 1,
        *,
        of: Path = base,
        extra: dict[str, torch.Tensor] | None = None,
        change: Callable[[dict[str, torch.Tensor]], object] = lambda _: None,
        **fields: Any,
    ) -> Path:
        source, config = open_weights(of / "model.safetensors"), read_config(of)
        generator = torch.Generator().manual_seed(seed)
        rank, tensors = 2, dict(extra or {})
        for weight, spec in source.specs.items():
            if ".linear_" in weight and "adaln" not in weight and weight.startswith("blocks"):
                stem = weight.removesuffix(".weight")
                rows, columns = spec.shape
                tensors[f"{stem}.lora_A.weight"] = torch.randn(rank, columns, generator=generator)
                tensors[f"{stem}.lora_B.weight"] = (
                    torch.randn(rows, rank, generator=generator) * 0.02
                )
        change(tensors)
        described = AdapterConfig(
            rank=rank,
            alpha=4.0,
            dropout=0.0,
            target_modules=("linear_qkv",),
            trained_modules=("controls",),
            base=str(of),
            base_preset=config.preset,
            base_sha256=weights_sha256(source),
            world=config,
        )
        folder = tmp_path / name
        save_adapter(folder, replace(described, **fields), tensors)
        return folder

    return make
