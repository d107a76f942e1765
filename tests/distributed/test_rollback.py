"""A bad batch that only one rank has: both return to the checkpoint, and go on without it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from nemo_cosmos.models.diffusion.presets import DIFFUSION
from nemo_cosmos.testing.processes import ProcessPool
from nemo_cosmos.testing.tiny import Clips, write_latents
from nemo_cosmos.training.resilience.skipped import add_skipped, read_skipped
from tests.distributed.rollback_case import train_with

MAX_STEPS, TIMEOUT_S = 8, 600.0  # on a machine that does much else


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_bad_batch_of_one_rank_might_never_have_been_there(
    two_processes: ProcessPool, tmp_path: Path
) -> None:
    width = DIFFUSION["diffusion_nano_text2world"].network["crossattn_emb_channels"]
    latents = write_latents(tmp_path / "data", Clips(num_samples=40, text_dim=width))

    def train(poison: str, name: str, max_steps: int) -> list[dict[int, list[str]]]:
        words = (poison, str(latents), str(tmp_path / name), max_steps)
        return two_processes.run(train_with, *words, timeout_s=TIMEOUT_S)

    first, second = train("", "good", 6)
    [bad, *_] = second[6]
    assert bad not in first[6]

    seen = train(bad, "bad", MAX_STEPS)
    [line] = read_skipped(tmp_path / "bad" / "run")
    assert (line.step, line.back_to_step) == (6, 4) and "NaN" in line.reason
    assert {key.partition("@")[0] for key in line.keys} == {*first[6], *second[6]}
    assert all(rank.keys() == set(range(1, MAX_STEPS + 1)) for rank in seen)

    # The reference leaves the batch out from the beginning, and would fail if it saw it.
    add_skipped(tmp_path / "without" / "run", [line])
    same = train(bad, "without", MAX_STEPS)
    assert same == seen and read_skipped(tmp_path / "without" / "run") == [line]
    one, other = (weights(tmp_path / name / "run") for name in ("bad", "without"))
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert torch.isfinite(tensor).all() and torch.equal(tensor, other[name]), name


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "export" / "model.safetensors")
