"""What an autoregressive world knows of clips that it was not trained on.

Two figures, each with an interval over distinct clips (not over windows, which share a scene):

- perplexity of the codes behind the first latent frame, each with the true codes before it, beside
  that of a world before the training (``--before``), or of random weights;
- PSNR of greedy continuations of the first latent frame, against the real frames behind it. Beside
  it stand the given frame repeated, its codes repeated, and the true codes, above which no
  continuation gets: what the tokenizer loses is lost.

A world that is told actions gets its own, those of another clip, and none, and the same figures for
each: what it loses by another's is how much it listens.

Codes need the frames beside them (``nemo-cosmos tokenize ... --keep-video``)::

    python benchmarks/ar_held_out.py --world runs/ar/export --codes codes/held_out

Prints one JSON line.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from pairs import machine
from torch import Tensor

from nemo_cosmos.checkpoint.world.folder import load_world
from nemo_cosmos.data.loading.latent_dataset import LatentDataset
from nemo_cosmos.data.loading.loader import SampleDraw
from nemo_cosmos.evaluation.statistics import Score, mean_score, paired_difference
from nemo_cosmos.models.autoregressive.build import ARWorldNetwork, build_network, joined_context
from nemo_cosmos.models.autoregressive.controls import ARControlEmbedding
from nemo_cosmos.models.autoregressive.decoding.drafts import Drafts
from nemo_cosmos.models.autoregressive.decoding.loops import Job, decode_jacobi
from nemo_cosmos.models.autoregressive.decoding.sampling import Sampling
from nemo_cosmos.models.autoregressive.decoding.scorer import Scorer
from nemo_cosmos.models.autoregressive.network.config import ARConfig
from nemo_cosmos.models.autoregressive.network.transformer import TokenInput
from nemo_cosmos.models.autoregressive.process.training_step import make_targets, next_code_loss
from nemo_cosmos.video.decode import decode

WINDOW = 48
Told: TypeAlias = dict[str, Tensor]
"""A clip's signals, as in a batch of one."""


@dataclass(frozen=True)
class HeldOut:
    """One window of a clip.

    Attributes:
        codes_THW: its codes.
        frames_CTHW: its real frames, from -1 to 1.
        told: the signals of the world's controls.
    """

    codes_THW: Tensor
    frames_CTHW: Tensor
    told: Told


Clips: TypeAlias = dict[str, list[HeldOut]]
"""The windows of each clip."""


class WithFrames(LatentDataset):
    """Tokenised samples with their frames."""

    def decode(self, sample: Any, draw: SampleDraw) -> dict[str, Any]:
        """Return one sample."""
        item = super().decode(sample, draw)
        frames_THWC = decode(sample.read("mp4")).frames_THWC
        frames_CTHW = torch.from_numpy(np.array(frames_THWC)).permute(3, 0, 1, 2)
        return {**item, "frames": frames_CTHW / 127.5 - 1}


def read_clips(codes: str, controls: list[Any], num_clips: int, num_windows: int) -> Clips:
    """Return the first windows of the first clips."""
    dataset = WithFrames([codes], codes=True, controls=controls)
    signals = [signal for control in dataset.controls for signal in control.signals]
    names = [signal.batch_key(array) for signal in signals for array in signal.arrays]
    clips: Clips = {}
    for bucket in dataset.corpus.counts:
        for place in range(int(dataset.corpus.counts[bucket].sum())):
            item = dataset[SampleDraw(dataset.corpus.nth(bucket, place), bucket, place)]
            clip = item["key"].split("@")[0].rsplit("-w", 1)[0]
            told = {name: item[name][None] for name in names}
            clips.setdefault(clip, []).append(HeldOut(item["codes"], item["frames"], told))
    return {name: windows[:num_windows] for name, windows in list(clips.items())[:num_clips]}


class Measured:
    """A world and what it is asked.

    Args:
        net: its network.
        world: the world folder, for its tokenizer and its training's settings.
    """

    def __init__(self, net: ARWorldNetwork, world: Any) -> None:
        self.net, self.world = net, world

    def control(self, window: HeldOut, told: Told) -> ARControlEmbedding:
        """What the controls add."""
        frames, rows, columns = window.codes_THW.shape
        return self.net.embed_controls(told, (frames, rows, columns))

    @torch.no_grad()
    def nats(self, window: HeldOut, told: Told) -> float:
        """Mean negative log-likelihood of the codes behind the given ones."""
        net, codes = self.net, window.codes_THW
        control = self.control(window, told)
        targets = make_targets(codes[None], net.config, self.world.config.model.process, None)
        frames, rows, columns = codes.shape
        table = net.place_table((frames, rows, columns), codes.device)
        context = joined_context(net.config, None, control)
        inputs = TokenInput(
            targets.tokens_BL, table.at(targets.index_L), context, frame_BTE=control.frame_BTE
        )
        config = net.config
        return float(next_code_loss(net(inputs), targets, 0.0, config.vocab_size, net.tp_group))

    @torch.no_grad()
    def continued_db(self, window: HeldOut, told: Told) -> float:
        """PSNR of the likeliest continuation of the first latent frame."""
        codes, control = window.codes_THW, self.control(window, told)
        frames, rows, columns = codes.shape
        grid = (frames, rows, columns)
        scorer = Scorer(
            self.net,
            grid,
            spare=WINDOW,
            text_BMC=joined_context(self.net.config, None, control),
            frame_BTE=control.frame_BTE,
        )
        job = Job([codes[:1].flatten()], [codes.numel()], [0], Sampling(0.0))
        drafts = Drafts("frame", grid, self.net.config.vocab_size)
        made = decode_jacobi(scorer, job, WINDOW, drafts).codes[0]
        return self.decoded_db(window, made.view(grid))

    def still_codes_db(self, window: HeldOut) -> float:
        """PSNR of the given codes, repeated."""
        codes_THW = window.codes_THW
        return self.decoded_db(window, codes_THW[:1].expand_as(codes_THW).contiguous())

    @torch.no_grad()
    def decoded_db(self, window: HeldOut, codes_THW: Tensor) -> float:
        """PSNR of codes, decoded."""
        made_CTHW = self.world.tokenizer.decode(codes_THW[None].int())[0]
        return psnr_db(made_CTHW, window.frames_CTHW)


def psnr_db(made_CTHW: Tensor, real_CTHW: Tensor) -> float:
    """PSNR behind the given frame."""
    squared = (made_CTHW.clamp(-1, 1) - real_CTHW)[:, 1:].square().mean()
    return float(10 * torch.log10(4 / squared))


def standing_still_db(window: HeldOut) -> float:
    """PSNR of the last given frame, repeated."""
    real = window.frames_CTHW
    return psnr_db(real[:, :1].expand_as(real), real)


def by_clip(clips: Clips, figure: Callable[[str, HeldOut], float]) -> list[float]:
    """The mean of each clip's windows."""
    return [
        float(np.mean([figure(name, window) for window in windows]))
        for name, windows in clips.items()
    ]


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Measure the world on all clips."""
    world = load_world(args.world)
    assert isinstance(world.net, ARWorldNetwork)
    clips = read_clips(args.codes, list(world.config.controls), args.clips, args.windows)
    ours = Measured(world.net, world)
    names = list(clips)
    other = dict(zip(names, names[1:] + names[:1], strict=True))
    telling: dict[str, Callable[[str, HeldOut], Told]] = {"own": lambda _, window: window.told}
    if world.config.controls:
        telling["another's"] = lambda name, _: clips[other[name]][0].told
        telling["none"] = lambda _, w: {k: torch.zeros_like(v) for k, v in w.told.items()}
    nats = {
        key: by_clip(clips, lambda name, window, told=told: ours.nats(window, told(name, window)))
        for key, told in telling.items()
    }
    before = Measured(network_before(args.before, world), world)
    continued = {
        key: by_clip(
            clips, lambda name, window, told=told: ours.continued_db(window, told(name, window))
        )
        for key, told in telling.items()
        if key != "none"
    }
    still = by_clip(clips, lambda _, window: standing_still_db(window))
    still_codes = by_clip(clips, lambda _, window: ours.still_codes_db(window))
    return {
        "benchmark": "ar_held_out",
        "clips": len(clips),
        "windows": sum(map(len, clips.values())),
        "perplexity_before": perplexity(
            by_clip(clips, lambda _, window: before.nats(window, window.told))
        ),
        "perplexity": {key: perplexity(values) for key, values in nats.items()},
        "nats_lost": {
            key: figure(paired_difference(values, nats["own"]))
            for key, values in nats.items()
            if key != "own"
        },
        "psnr_db": {
            **{key: figure(mean_score(values)) for key, values in continued.items()},
            "still": figure(mean_score(still)),
            "still, in codes": figure(mean_score(still_codes)),
            "true codes": figure(
                mean_score(by_clip(clips, lambda _, w: ours.decoded_db(w, w.codes_THW)))
            ),
        },
        "gain_db": {
            "over still": figure(paired_difference(continued["own"], still)),
            "over still, in codes": figure(paired_difference(continued["own"], still_codes)),
            **{
                f"over {key}": figure(paired_difference(continued["own"], values))
                for key, values in continued.items()
                if key != "own"
            },
        },
        **machine(),
    }


def network_before(folder: str | None, world: Any) -> ARWorldNetwork:
    """The network of another world, or one with random weights."""
    if folder is not None:
        net = load_world(folder).net
        assert isinstance(net, ARWorldNetwork)
        return net
    torch.manual_seed(0)
    config = ARConfig.from_architecture(world.net.config.architecture())
    return build_network(config, world.config.controls, world.tokenizer.config).eval()


def perplexity(nats: list[float]) -> list[float]:
    """The perplexity with its interval."""
    score = mean_score(nats)
    return [round(math.exp(one), 2) for one in (score.value, score.low, score.high) if one]


def figure(score: Score) -> list[float]:
    """A number with its interval."""
    return [round(one, 3) for one in (score.value, score.low, score.high) if one is not None]


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--world", required=True, help="a world folder of the family")
    parser.add_argument("--codes", required=True, help="tokenised clips, with their frames")
    parser.add_argument("--before", help="a world before the training; random weights by default")
    parser.add_argument("--clips", type=int, default=16)
    parser.add_argument("--windows", type=int, default=3, help="of each clip")
    print(json.dumps(measure(parser.parse_args())))


if __name__ == "__main__":
    main()
