"""A pool on two ranks: the first takes requests, both make the video, and either may stop it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nemo_cosmos.testing.processes import ProcessPool
from tests.distributed.generation_case import lead_or_follow, stop_from_second_rank, write_world


@pytest.mark.slow
def test_the_first_rank_leads(two_processes: ProcessPool, tmp_path: Path) -> None:
    folder, audit = str(tmp_path / "world"), tmp_path / "audit.jsonl"
    two_processes.run(write_world, folder)
    two_processes.run(write_world, folder + "2")
    lead, follower = two_processes.run(lead_or_follow, folder, str(audit))
    first, second, again = lead["frames"]
    assert np.array_equal(first, again) and np.array_equal(first, second)
    assert lead["loaded"] == [folder + "2", folder], "the one that was used last is the last"
    assert lead["bytes"] > 0 and follower == {"loaded": [], "bytes": 0}, "closed from afar"
    asked = [line for line in audit.read_text().splitlines() if "about a knife" in line]
    assert len(asked) == 6, "two ranks ask about a prompt once"


@pytest.mark.slow
def test_what_one_rank_raises_stops_both_at_the_same_step(
    two_processes: ProcessPool, tmp_path: Path
) -> None:
    folder = str(tmp_path / "world")
    two_processes.run(write_world, folder)
    first, second = two_processes.run(stop_from_second_rank, folder, str(tmp_path / "audit.jsonl"))
    assert first == ["Cancelled", [1, 2], 9]
    assert second == ["KeyError", [1, 2], 9]
