"""Our shard reader against the ``webdataset`` library, on the same shards, both shuffling.

Two kinds of samples: cached latents of 4 KB (with a text embedding of 4 KB and a JSON), and clips
of about a megabyte. Each side yields the bytes of every file of every sample once, in its shuffled
order: ours through the index and the global order, theirs through ``WebDataset(...).shuffle(1000)``
with shuffled shards. The keys and the bytes must be the same. The two sides alternate in one
process, with the files in the page cache; the figure is the median of the paired ratios (above 1:
ours is faster). ``decoded`` also turns the latents of both into tensors. Prints one JSON line.

    python benchmarks/shard_reading.py [--latents 8000] [--clips 200] [--pairs 7]
"""

from __future__ import annotations

import argparse
import hashlib
import json
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

warnings.filterwarnings("ignore")

import numpy as np  # noqa: E402
import torch  # noqa: E402
import webdataset  # noqa: E402
from pairs import alternate, machine, summary  # noqa: E402
from safetensors.torch import load  # noqa: E402

from nemo_cosmos.data.loading.buckets import Bucket  # noqa: E402
from nemo_cosmos.data.loading.corpus import Corpus  # noqa: E402
from nemo_cosmos.data.loading.latents import pack_embedding, pack_latent  # noqa: E402
from nemo_cosmos.data.order.stream import BucketOrder  # noqa: E402
from nemo_cosmos.data.schema import ClipRecord  # noqa: E402
from nemo_cosmos.data.shards.bad_shards import BadShards  # noqa: E402
from nemo_cosmos.data.shards.writer import ShardWriter, list_shards  # noqa: E402

LATENT, TEXT = "latent.safetensors", "t5.safetensors"
BATCH_SIZE = 64
CLIP_BYTES = 1_000_000
SHARD_BYTES = 20_000_000

Samples = Iterator[tuple[str, dict[str, bytes]]]


def write_shards(folder: Path, kind: str, count: int) -> None:
    """Samples with random content, in shards of 20 MB."""
    generator = torch.Generator().manual_seed(0)
    random = np.random.default_rng(0)
    with ShardWriter(folder, max_bytes=SHARD_BYTES) as writer:
        for number in range(count):
            record = ClipRecord(
                key=f"clip-{number:06d}",
                source="raw/film.mp4",
                span_s=(0.0, 0.7),
                fps=24.0,
                num_frames=17,
                width=64,
                height=64,
                caption="a robot arm puts the red cube onto the blue plate",
            )
            if kind == "latents":
                files = {
                    LATENT: pack_latent(torch.randn(16, 2, 8, 8, generator=generator)),
                    TEXT: pack_embedding(torch.randn(4, 512, generator=generator)),
                }
            else:
                files = {"mp4": random.bytes(CLIP_BYTES + int(random.integers(CLIP_BYTES // 10)))}
            writer.add(record, files)


def read_ours(folder: Path, suffixes: tuple[str, ...], seed: int) -> Samples:
    """Every sample once, in the order of training."""
    corpus = Corpus(
        [folder],
        required=suffixes,
        buckets_of=lambda *shape: [Bucket(*shape)],
        bad=BadShards(),
    )
    order = BucketOrder(corpus, list(corpus.counts), batch_size=BATCH_SIZE, seed=seed)
    for number in range(-(-len(corpus) // BATCH_SIZE)):
        rest = len(corpus) - number * BATCH_SIZE
        for place in order.batch(number).numbers[:rest].tolist():
            sample = corpus.sample(place)
            yield sample.key, dict(zip(suffixes, sample.read_files(suffixes), strict=True))


def read_theirs(folder: Path, suffixes: tuple[str, ...], seed: int) -> Samples:
    """Every sample once, in the order of webdataset's shuffle buffer."""
    shards = list_shards(folder)
    pipeline = webdataset.WebDataset(shards, shardshuffle=len(shards), seed=seed).shuffle(1000)
    for sample in pipeline:
        yield sample["__key__"], {suffix: sample[suffix] for suffix in suffixes}


def digest(samples: Samples) -> dict[str, str]:
    """What is compared: a checksum of all files by key."""
    return {key: hashlib.sha256(b"".join(files.values())).hexdigest() for key, files in samples}


def read_through(samples: Samples, decode: bool) -> None:
    """Read all samples."""
    num_bytes = 0
    for _, files in samples:
        if decode:
            num_bytes += load(files[LATENT])["latent"].nbytes
        else:
            num_bytes += sum(map(len, files.values()))
    assert num_bytes


def compare(
    folder: Path, suffixes: tuple[str, ...], num_pairs: int, decode: bool = False
) -> dict[str, Any]:
    """Assert the same content, then time in alternating order."""
    ours = digest(read_ours(folder, suffixes, seed=0))
    assert ours == digest(read_theirs(folder, suffixes, seed=0))
    seeds = iter(range(2 * num_pairs))  # another order every time
    figures = summary(
        alternate(
            lambda: read_through(read_ours(folder, suffixes, seed=next(seeds)), decode),
            lambda: read_through(read_theirs(folder, suffixes, seed=next(seeds)), decode),
            num_pairs,
            warm_up=0,
        ),
        digits=2,
    )
    return figures | {"samples": len(ours)}


def main() -> None:
    """Parse the command line and print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--latents", type=int, default=8000)
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--folder", type=Path, default=None, help="where to write the shards")
    arguments = parser.parse_args()
    result: dict[str, Any] = {
        "benchmark": "shard_reading",
        "against": f"webdataset {webdataset.__version__}",
        "latents": arguments.latents,
        "clips": arguments.clips,
    }
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        latents, clips = Path(name) / "latents", Path(name) / "clips"
        write_shards(latents, "latents", arguments.latents)
        write_shards(clips, "clips", arguments.clips)
        suffixes = ("json", LATENT, TEXT)
        start = time.perf_counter()
        next(read_ours(latents, suffixes, seed=0))
        result["index_built_us_per_sample"] = round(
            1e6 * (time.perf_counter() - start) / arguments.latents, 1
        )
        result["latent_4kb"] = compare(latents, suffixes, arguments.pairs)
        result["latent_4kb_decoded"] = compare(latents, suffixes, arguments.pairs, decode=True)
        result["mp4_1mb"] = compare(clips, ("json", "mp4"), arguments.pairs)
    result |= machine()
    print(json.dumps(result))


if __name__ == "__main__":
    main()
