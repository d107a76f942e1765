"""Tensor-parallel ranks decode the codes that one process decodes."""

from __future__ import annotations

from pathlib import Path

import pytest

from nemo_cosmos.testing.processes import ProcessPool
from tests.distributed.training_case import decode_codes, write_weights


@pytest.mark.slow
def test_ranks_that_share_the_weights_decode_the_same(
    two_processes: ProcessPool, tmp_path: Path
) -> None:
    with ProcessPool(1) as pool:
        for task in ("codes", "codes_text"):
            weights = str(tmp_path / task)
            pool.run(write_weights, task, weights)
            (expected,) = pool.run(decode_codes, task, weights)
            assert expected[:2] == expected[2:]
            assert two_processes.run(decode_codes, task, weights) == [expected, expected]
