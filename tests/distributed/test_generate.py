"""Several processes make the same video as one, and say so once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from nemo_cosmos.testing.processes import ProcessPool
from tests.distributed.generation_case import make_videos, write_world


@pytest.mark.slow
def test_two_processes_make_the_same_video(two_processes: ProcessPool, tmp_path: Path) -> None:
    folder, audit = str(tmp_path / "world"), tmp_path / "audit.jsonl"
    two_processes.run(write_world, folder)
    expected = two_processes.run(make_videos, folder, str(tmp_path / "alone"), 1, alone=True)[0]
    for tp in (1, 2):
        audit.unlink(missing_ok=True)
        for found in two_processes.run(make_videos, folder, str(audit), tp):
            for one, other in zip(found["latents"], expected["latents"], strict=True):
                torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
            for one, other in zip(found["frames"], expected["frames"], strict=True):
                assert np.abs(one.astype(int) - other).max() <= 1
            assert (found["weights"] < 0.8 * expected["weights"]) == (tp == 2)
        asked = [line for line in audit.read_text().splitlines() if "about a knife" in line]
        assert len(asked) == 3, "for each of three prompts, two processes ask the guard once"
