"""What checksums cost: of a save, as a share of it, and of a load, in MB/s.

    python benchmarks/checkpoint_sums.py [--mb 512] [--repeats 5] [--folder /tmp]

Saves the same tensors with Megatron-Core, by turns with and without sums, and compares each pair;
then reads the files back and verifies them. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mb", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--folder", default=None)
    options = parser.parse_args()

    from nemo_cosmos.platform.quiet import quiet_nemo

    quiet_nemo()
    import torch
    from megatron.core import dist_checkpointing
    from megatron.core.dist_checkpointing.mapping import ShardedTensor
    from megatron.core.dist_checkpointing.strategies import filesystem_async

    from nemo_cosmos.checkpoint.formats.checksums import find_damage, read_sums
    from nemo_cosmos.platform import ensure_model_parallel
    from nemo_cosmos.platform.patches.checkpoints import use_results_queue
    from nemo_cosmos.platform.patches.nemo import install_nemo_patches

    ensure_model_parallel()
    install_nemo_patches()
    use_results_queue(in_process=True)
    summed = {name: getattr(filesystem_async, name) for name in ("open", "_write_item")}
    finish = filesystem_async.FileSystemWriterAsync.finish
    plain_item = summed["_write_item"].__wrapped__
    tensors = {f"t{number}": torch.randn(2**20) for number in range(options.mb // 4)}
    place = Path(tempfile.mkdtemp(dir=options.folder))

    def save(with_sums: bool) -> float:
        shutil.rmtree(place / "weights", ignore_errors=True)
        (place / "weights").mkdir()
        filesystem_async.open = summed["open"] if with_sums else open
        filesystem_async._write_item = summed["_write_item"] if with_sums else plain_item
        filesystem_async.FileSystemWriterAsync.finish = finish if with_sums else finish.__wrapped__
        state = {
            name: ShardedTensor.from_rank_offsets(name, tensor) for name, tensor in tensors.items()
        }
        started_s = time.perf_counter()
        dist_checkpointing.save(state, str(place / "weights"))
        return time.perf_counter() - started_s

    save(True)
    ratios, times_s = [], []
    for _ in range(options.repeats):
        without_s, with_s = save(False), save(True)
        ratios.append(with_s / without_s)
        times_s.append(with_s)
    weights = place / "weights"
    sums = read_sums(weights)
    assert sums is not None
    size_mb = sum(size for size, _ in sums.values()) / 1e6
    started_s = time.perf_counter()
    assert not list(find_damage(weights, sums))
    verify_s = time.perf_counter() - started_s
    shutil.rmtree(place)
    print(
        json.dumps(
            {
                "benchmark": "checkpoint_sums",
                "mb": round(size_mb),
                "cores": len(os.sched_getaffinity(0)),
                "save_s": round(statistics.median(times_s), 3),
                "save_with_over_without": round(statistics.median(ratios), 3),
                "save_extremes": [round(min(ratios), 3), round(max(ratios), 3)],
                "verify_mb_per_s": round(size_mb / verify_s),
            }
        )
    )


if __name__ == "__main__":
    main()
