"""Decoding with heads that guess ahead: a tree of guesses in a pass, and the same codes.

Heads guess the next codes from the last token that is final, and the code at the same place of the
frame before is a guess, too. The best guesses are laid out as a tree, which is scored in one pass:
a node sees its ancestors alone. The code behind every node is drawn as one after the other would
draw it, with the noise of its place. From the root on, the decoder goes to the child that holds
what was drawn, as long as there is one: everything drawn on the way is final, and equal to what
:func:`~nemo_cosmos.models.autoregressive.decoding.loops.decode_plain` draws with the same seed.

With *typical acceptance* a guess is taken where it is likely enough, whatever would be drawn. That
is faster and no longer the network's distribution; it happens only where it is asked for.

Shape suffixes: B videos, L nodes, K heads, R ranks, N = B * L, V codes, E model width.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from nemo_cosmos.models.autoregressive.decoding.guesses import Guesser
from nemo_cosmos.models.autoregressive.decoding.loops import Decoded, Job, begin
from nemo_cosmos.models.autoregressive.decoding.noise import PlaceNoise
from nemo_cosmos.models.autoregressive.decoding.sampling import Sampling, draw, is_typical
from nemo_cosmos.models.autoregressive.decoding.scorer import Scorer
from nemo_cosmos.models.autoregressive.decoding.sequences import Sequences
from nemo_cosmos.models.autoregressive.decoding.tree import ROOT, Tree
from nemo_cosmos.models.autoregressive.heads.module import Heads
from nemo_cosmos.progress import Progress


def decode_medusa(
    scorer: Scorer,
    job: Job,
    heads: Heads,
    choose: Callable[[Scorer], Tree],
    progress: Progress | None = None,
    *,
    is_lossy: bool = False,
) -> Decoded:
    """Draw the codes along a tree of guesses; they are those of one after the other.

    Args:
        scorer: the network with an empty cache and room for the nodes of a tree.
        job: what to decode.
        heads: what guesses, besides the frame before.
        choose: gives the tree; called once, when the given codes are fed.
        progress: called after every pass with the codes done and wanted.
        is_lossy: whether guesses are taken where they are typical, in place of those that were
            drawn: fewer passes, and codes of another distribution.
    """
    sequences, noise, num_drawn = begin(scorer, job)
    guesser = Guesser(scorer, heads, job.sampling, noise)
    tree, num_passes = choose(scorer), 0
    num_ranks = 1 + max(tree.ranks)
    guess_KBR: Tensor | None = None  # before the first pass there is nothing to guess from
    while any(sequences.remaining):
        now = ROOT if guess_KBR is None else tree
        tokens_BL = _tokens(sequences, now, guess_KBR)
        x_LBE = scorer.run(tokens_BL, now)
        num_passes += 1
        logits_LBV = scorer.score(x_LBE)
        drawn_BL = _draw(scorer, logits_LBV, sequences, now, job.sampling, noise)
        paths = [
            now.follow(tokens, drawn, left)
            for tokens, drawn, left in zip(
                tokens_BL.tolist(), drawn_BL.tolist(), sequences.remaining, strict=True
            )
        ]
        if is_lossy:
            paths = _typical_paths(logits_LBV, tokens_BL, sequences, now, job.sampling)
            for path, tokens_L, drawn_L in zip(paths, tokens_BL, drawn_BL, strict=True):
                drawn_L[path[:-1]] = tokens_L[path[1:]]  # taken, not drawn, but for the last
        sequences.accept(paths, drawn_BL)
        scorer.keep(now.num_nodes, paths)
        last = [path[-1] if path else 0 for path in paths]
        guess_KBR = guesser.guess(x_LBE, last, sequences, num_ranks)
        if progress is not None:
            progress(num_drawn - sum(sequences.remaining), num_drawn)
    return Decoded(sequences.results(), num_passes, num_drawn)


def _tokens(sequences: Sequences, tree: Tree, guess_KBR: Tensor | None) -> Tensor:
    """The token of each node, (B, L)."""
    root_B1 = sequences.tokens_before(sequences.places(1))
    if guess_KBR is None:
        return root_B1
    head_L = torch.tensor(tree.depths[1:], device=root_B1.device, dtype=torch.int64) - 1
    rank_L = torch.tensor(tree.ranks[1:], device=root_B1.device, dtype=torch.int64)
    guess_LB = guess_KBR.transpose(1, 2)[head_L, rank_L]
    return torch.cat([root_B1, guess_LB.t()], dim=1)


def _draw(
    scorer: Scorer,
    logits_LBV: Tensor,
    sequences: Sequences,
    tree: Tree,
    sampling: Sampling,
    noise: PlaceNoise,
) -> Tensor:
    """Draw the code behind every node, (B, L)."""
    num_nodes, batch, _ = logits_LBV.shape
    depth_L = torch.tensor(tree.depths, device=scorer.device)
    place_BL = sequences.places(1) + depth_L
    video_N = torch.arange(batch, device=scorer.device).repeat_interleave(num_nodes)
    logits_NV = logits_LBV.transpose(0, 1).flatten(0, 1)
    return draw(logits_NV, sampling, noise, video_N, place_BL.flatten()).view(batch, num_nodes)


def _typical_paths(
    logits_LBV: Tensor, tokens_BL: Tensor, sequences: Sequences, tree: Tree, sampling: Sampling
) -> list[list[int]]:
    """The longest path of typical guesses of each video."""
    parent_L = torch.tensor([max(parent, 0) for parent in tree.parents], device=tokens_BL.device)
    logits_NV = logits_LBV[parent_L].transpose(0, 1).flatten(0, 1)
    typical_BL = is_typical(logits_NV, tokens_BL.flatten(), sampling).view_as(tokens_BL)
    rows = zip(typical_BL.tolist(), sequences.remaining, strict=True)
    return [tree.follow_accepted(typical, left) for typical, left in rows]
