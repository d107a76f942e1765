"""Decoding with an autoregressive world: windows of codes at once against one after the other.

With ``--world`` and ``--codes`` (tokenised clips that it was not trained on), both sides continue
the same clips with the same seeds and take turns; the codes are compared before anything is
reported. Prints one JSON line for each window: how many times fewer passes of the network and less
wall time, both above 1 where windows win.

    python benchmarks/ar_decode.py --world runs/ar/export --codes codes/held_out [--windows 8 16 32]

With ``--trees``, trees of so many guesses by the world's heads (``nemo-cosmos heads``) besides;
``--heads 3 6 9`` lets the first so many guess.

With ``--cost-curve``, how long a pass of 1 to 256 tokens takes behind a full cache, with random
weights of a preset; needs no checkpoint, and a minute on a GPU. Beside it stands what one H200 is
expected to take in bfloat16, by arithmetic, and the codes a second at the published acceptance.

    python benchmarks/ar_decode.py --cost-curve --preset ar_4b
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from functools import partial
from pathlib import Path
from typing import Any

import torch
from pairs import Pair, machine, summary, time_call

from nemo_cosmos.checkpoint.world.folder import load_world
from nemo_cosmos.data.loading.latent_dataset import LatentDataset
from nemo_cosmos.data.loading.loader import SampleDraw
from nemo_cosmos.evaluation.statistics import mean_score
from nemo_cosmos.models.autoregressive.costs import count_parameters
from nemo_cosmos.models.autoregressive.decoding.drafts import Drafts
from nemo_cosmos.models.autoregressive.decoding.loops import (
    Decoded,
    Job,
    decode_jacobi,
    decode_plain,
)
from nemo_cosmos.models.autoregressive.decoding.medusa import decode_medusa
from nemo_cosmos.models.autoregressive.decoding.sampling import Sampling
from nemo_cosmos.models.autoregressive.decoding.scorer import Scorer
from nemo_cosmos.models.autoregressive.decoding.tree import grow_tree
from nemo_cosmos.models.autoregressive.heads.file import SavedHeads, load_heads
from nemo_cosmos.models.autoregressive.heads.module import Heads
from nemo_cosmos.models.autoregressive.network.config import ARConfig
from nemo_cosmos.models.autoregressive.network.flops import ar_flops
from nemo_cosmos.models.autoregressive.network.transformer import ARNetwork
from nemo_cosmos.models.autoregressive.presets import get_ar_preset
from nemo_cosmos.planning.hardware import LAUNCH_S, get_gpu
from nemo_cosmos.platform import by_device, default_device, ensure_model_parallel

GPU = "h200"
PUBLISHED_WINDOW, PUBLISHED_CODES = 128, 13.6
"""Codes that became final in a pass of a window (arXiv 2510.24211, Cosmos 4B)."""
LAUNCHES_A_LAYER = 25
LENGTHS = (1, 2, 4, 8, 16, 32, 64, 96, 128, 192, 256)


def read_codes(folder: Path, num_clips: int) -> list[torch.Tensor]:
    """Return the codes (T,H,W) of the first tokenised windows of a folder, one a clip."""
    dataset = LatentDataset([folder], codes=True)
    found: dict[str, torch.Tensor] = {}
    for bucket in dataset.corpus.counts:
        for place in range(int(dataset.corpus.counts[bucket].sum())):
            draw = SampleDraw(dataset.corpus.nth(bucket, place), bucket, place)
            item = dataset[draw]
            clip = item["key"].split("@")[0].rsplit("-w", 1)[0]
            found.setdefault(clip, item["codes"])
    return list(found.values())[:num_clips]


def compare(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure every window on all clips."""
    world = load_world(args.world)
    assert isinstance(world.net, ARNetwork)
    net, sampling = world.net, Sampling(args.temperature, top_p=args.top_p)
    clips = read_codes(Path(args.codes), args.clips)
    needs_heads = args.trees or args.drafts == "heads"
    saved = (
        load_heads(world.folder, net.config.hidden_size, dtype=torch.float32, device=device_of(net))
        if needs_heads
        else None
    )
    windows = [measure(net, clips, size, sampling, args, saved) for size in args.windows]
    trees = [
        measure(net, clips, size, sampling, args, chosen, "tree")
        for chosen in (first_heads(saved, args.heads) if saved else [])
        for size in args.trees
    ]
    return [*windows, *trees]


def first_heads(saved: SavedHeads, counts: list[int]) -> list[SavedHeads]:
    """Return the first heads of a world, so many each; all where no number is given.

    Each head has a layer and a loss of its own, so that the first of many are those of few, but for
    the clipping of gradients, which they share.
    """
    found = []
    for count in counts or [saved.heads.num_heads]:
        heads = Heads(count, saved.heads.bias_KE.shape[1]).requires_grad_(False)
        heads.weight_KEE.copy_(saved.heads.weight_KEE[:count])
        heads.bias_KE.copy_(saved.heads.bias_KE[:count])
        found.append(SavedHeads(heads, saved.acceptance[:count]))
    return found


def device_of(net: ARNetwork) -> torch.device:
    """Where the network computes."""
    return next(net.parameters()).device


def measure(
    net: ARNetwork,
    clips: list[torch.Tensor],
    window: int,
    sampling: Sampling,
    args: argparse.Namespace,
    saved: SavedHeads | None = None,
    shape: str = "window",
) -> dict[str, Any]:
    """Continue every clip by both sides, in turns."""
    tree = grow_tree(saved.acceptance, window) if saved and shape == "tree" else None
    by_heads = saved.heads if saved and args.drafts == "heads" else None
    pairs, passes, is_same = [], [], []
    for seed, codes_THW in enumerate(clips):
        frames, rows, columns = codes_THW.shape
        grid = (frames, rows, columns)
        job = Job([codes_THW[: args.given].flatten()], [codes_THW.numel()], [seed], sampling)
        kept: dict[str, Decoded] = {}

        def decode(name: str, job: Job = job, grid: Any = grid, kept: Any = kept) -> None:
            scorer = Scorer(net, grid, spare=window)
            if name == "plain":
                kept[name] = decode_plain(scorer, job)
            elif saved and tree:
                kept[name] = decode_medusa(scorer, job, saved.heads, lambda _: tree)
            else:
                drafts = Drafts(args.drafts, grid, net.config.vocab_size)
                kept[name] = decode_jacobi(scorer, job, window, drafts, heads=by_heads)

        fast_s, plain_s = (time_call(partial(decode, name)) for name in ("fast", "plain"))
        pairs.append(Pair(fast_s, plain_s))
        is_same.append(torch.equal(kept["fast"].codes[0], kept["plain"].codes[0]))
        passes.append(kept["plain"].num_passes / kept["fast"].num_passes)
    return {
        "benchmark": "ar_decode",
        shape: tree.num_nodes if tree else window,
        **({"heads": len(saved.acceptance)} if saved and tree else {"drafts": args.drafts}),
        "temperature": args.temperature,
        "top_p": args.top_p,
        "clips": len(clips),
        "is_identical": all(is_same),
        "passes_ratio_median": round(statistics.median(passes), 2),
        "passes_ratio_min": round(min(passes), 2),
        "passes_ratio_mean": interval(passes),
        "ratio_mean": interval([pair.theirs.wall / pair.ours.wall for pair in pairs]),
        "cpu_ratio_mean": interval([pair.theirs.cpu / pair.ours.cpu for pair in pairs]),
        **summary(pairs),
        **machine(),
    }


def interval(ratios: list[float]) -> list[float]:
    """The mean over clips, and its interval."""
    score = mean_score(ratios)
    return [round(one, 2) for one in (score.value, score.low, score.high) if one is not None]


def cost_curve(preset: str, num_pairs: int) -> dict[str, Any]:
    """Time a pass of each length behind a cache that is full but for 256 tokens."""
    ensure_model_parallel()
    dtype = by_device(torch.float32, torch.bfloat16)
    config = get_ar_preset(preset).config(params_dtype=dtype)
    net = ARNetwork(config).to(default_device()).eval().requires_grad_(False)
    grid = (config.max_frames, config.max_height, config.max_width)
    text = torch.zeros(1, 512, config.context_channels) if config.context_channels else None
    scorer = Scorer(net, grid, spare=LENGTHS[-1], text_BMC=text)
    full = math.prod(grid) - LENGTHS[-1]
    curve = {}
    for length in LENGTHS:
        tokens_BL = torch.zeros(1, length, dtype=torch.int64, device=scorer.device)
        times = []
        for _ in range(num_pairs + 2):
            scorer.cache.clear()
            scorer.cache.advance(full)  # what it holds does not matter for the time
            times.append(time_call(lambda tokens=tokens_BL: scorer.feed(tokens)).wall)
        curve[length] = round(1e3 * statistics.median(times[2:]), 3)
    expected = {length: expected_ms(config, length, full) for length in LENGTHS}
    return {
        "benchmark": "ar_decode_cost",
        "preset": preset,
        "ms": curve,
        f"expected_ms_{GPU}": {length: round(ms, 2) for length, ms in expected.items()},
        f"expected_codes_per_s_{GPU}": round(1e3 * PUBLISHED_CODES / expected[PUBLISHED_WINDOW]),
        **machine(),
    }


def expected_ms(config: ARConfig, length: int, num_cached: int) -> float:
    """The time of a pass on one GPU in bfloat16, by arithmetic.

    The longer of what memory and what products take, at the shares that large runs reach, and the
    launches of a step that is not captured into a graph.
    """
    gpu = get_gpu(GPU)
    weights = 2 * count_parameters(config).network
    keys = 2 * 2 * config.num_layers * (config.num_query_groups or 1) * config.head_dim * num_cached
    memory_s = (weights + keys) / (gpu.memory_bytes_per_s * gpu.achieved.memory)
    # Counted as whole sequences, less what the cached tokens would cost.
    flops = ar_flops(config, num_cached + length).forward - ar_flops(config, num_cached).forward
    products_s = flops / (gpu.bf16_flops * gpu.achieved.products)
    launches_s = LAUNCHES_A_LAYER * config.num_layers * LAUNCH_S
    return 1e3 * max(memory_s, products_s, launches_s)


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--world", help="a world folder of the family")
    parser.add_argument("--codes", help="tokenised clips that it was not trained on")
    parser.add_argument("--windows", type=int, nargs="*", default=[8, 16, 32])
    parser.add_argument("--trees", type=int, nargs="*", default=[])
    parser.add_argument("--heads", type=int, nargs="*", default=[], help="of each tree")
    parser.add_argument("--clips", type=int, default=4)
    parser.add_argument("--given", type=int, default=1, help="latent frames that are given")
    parser.add_argument("--drafts", default="frame")
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--top-p", type=float, default=0.9)
    parser.add_argument("--cost-curve", action="store_true")
    parser.add_argument("--preset", default="ar_nano")
    parser.add_argument("--pairs", type=int, default=5)
    args = parser.parse_args()
    lines = [cost_curve(args.preset, args.pairs)] if args.cost_curve else compare(args)
    for line in lines:
        print(json.dumps(line))


if __name__ == "__main__":
    main()
