"""Passes that trees of guesses take, counted for many sizes and numbers of heads at once.

Trees change no code, so that a clip is drawn once, in windows, and one pass over its codes gives
the heads' guesses behind every place. Which of them a tree would have accepted, and so how many
passes its decoding takes, follows without running it. ``ar_decode.py --trees`` runs them and
measures the time, too; the passes are the same.

    python benchmarks/ar_trees.py --world runs/ar/export --codes codes/held_out --clips 8

Prints one JSON line for each tree: how many times fewer passes than one code after the other.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Iterator
from pathlib import Path

import torch
from ar_decode import first_heads, read_codes
from pairs import machine

from nemo_cosmos.checkpoint.world.folder import load_world
from nemo_cosmos.models.autoregressive.decoding.drafts import Drafts
from nemo_cosmos.models.autoregressive.decoding.guesses import place_before
from nemo_cosmos.models.autoregressive.decoding.loops import Job, decode_jacobi
from nemo_cosmos.models.autoregressive.decoding.noise import PlaceNoise
from nemo_cosmos.models.autoregressive.decoding.sampling import Sampling, draw_best
from nemo_cosmos.models.autoregressive.decoding.scorer import Scorer
from nemo_cosmos.models.autoregressive.decoding.tree import Tree, grow_tree
from nemo_cosmos.models.autoregressive.heads.acceptance import USUAL_RANKS
from nemo_cosmos.models.autoregressive.heads.file import SavedHeads, load_heads
from nemo_cosmos.models.autoregressive.network.transformer import ARNetwork

WINDOW = 64

Guesses = list[list[list[int]]]
"""For each number of known codes, the guesses of the codes behind them: by head, by rank."""


@torch.no_grad()
def draw_and_guess(
    net: ARNetwork, saved: SavedHeads, codes_THW: torch.Tensor, job: Job
) -> tuple[list[int], Guesses]:
    """Draw a clip's codes, and all that heads would guess on the way."""
    frames, rows, columns = codes_THW.shape
    grid = (frames, rows, columns)
    drafts = Drafts("frame", grid, net.config.vocab_size)
    codes_P = decode_jacobi(Scorer(net, grid, spare=WINDOW), job, WINDOW, drafts).codes[0]
    scorer = Scorer(net, grid, spare=0)
    begin = [torch.tensor([net.config.begin_id])] if scorer.begins else []
    x_LBE = scorer.run(torch.cat([*begin, codes_P])[:-1][None])
    noise = PlaceNoise(job.seeds, device=scorer.device)
    total, first = len(codes_P), 1 - scorer.begins
    guesses = torch.full((total + 1, saved.heads.num_heads, USUAL_RANKS), -1)
    for head in range(saved.heads.num_heads):
        # Of so many known codes, the last was drawn behind the token before it.
        known_N = torch.arange(first + 1, total - head)
        logits_NV = scorer.score_by(x_LBE[known_N - first - 1], saved.heads, head)[:, 0]
        place_N = known_N + head
        video_N = torch.zeros_like(place_N)
        best_NR = draw_best(logits_NV, job.sampling, noise, video_N, place_N, USUAL_RANKS - 1)
        before_N1 = codes_P[place_before(place_N, scorer)][:, None]
        guesses[known_N, head] = torch.cat([before_N1, best_NR], dim=1)
    return codes_P.tolist(), guesses.tolist()


def count_passes(codes: list[int], guesses: Guesses, tree: Tree, num_given: int) -> int:
    """Count the passes with a tree; the first one has no guesses."""
    known, num_passes = num_given + 1, 1
    while known < len(codes):
        wanted = codes[known : known + max(tree.depths) + 1]
        here = guesses[known]
        # What is drawn behind a node: the code at its depth, if the guesses on the way are right.
        tokens = [
            here[depth - 1][rank] if depth else -1
            for depth, rank in zip(tree.depths, tree.ranks, strict=True)
        ]
        drawn = [wanted[depth] if depth < len(wanted) else -1 for depth in tree.depths]
        known += len(tree.follow(tokens, drawn, len(codes) - known))
        num_passes += 1
    return num_passes


def measure(args: argparse.Namespace) -> Iterator[dict[str, object]]:
    """Count the passes of every tree on all clips."""
    world = load_world(args.world)
    assert isinstance(world.net, ARNetwork)
    net, sampling = world.net, Sampling(args.temperature, top_p=args.top_p)
    device = next(net.parameters()).device
    saved = load_heads(world.folder, net.config.hidden_size, dtype=torch.float32, device=device)
    drawn = []
    for seed, codes_THW in enumerate(read_codes(Path(args.codes), args.clips)):
        given_P = codes_THW[: args.given].flatten()
        job = Job([given_P], [codes_THW.numel()], [seed], sampling)
        drawn.append((len(given_P), *draw_and_guess(net, saved, codes_THW, job)))
    for chosen in first_heads(saved, args.heads):
        for size in args.trees:
            tree = grow_tree(chosen.acceptance, size)
            fewer = [
                (len(codes) - num_given) / count_passes(codes, guesses, tree, num_given)
                for num_given, codes, guesses in drawn
            ]
            yield {
                "benchmark": "ar_trees",
                "tree": tree.num_nodes,
                "heads": len(chosen.acceptance),
                "temperature": args.temperature,
                "top_p": args.top_p,
                "clips": len(drawn),
                "passes_ratio_median": round(statistics.median(fewer), 2),
                "passes_ratio_min": round(min(fewer), 2),
                **machine(),
            }


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--world", required=True, help="a world folder of the family, with heads")
    parser.add_argument("--codes", required=True, help="tokenised clips that it was not trained on")
    parser.add_argument("--trees", type=int, nargs="*", default=[8, 16, 32, 64, 128])
    parser.add_argument("--heads", type=int, nargs="*", default=[3, 6, 9, 12])
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--given", type=int, default=1, help="latent frames that are given")
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--top-p", type=float, default=0.9)
    for line in measure(parser.parse_args()):
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
