"""Our CV8x8x8 tokenizer against diffusers' AutoencoderKLCosmos, with the same weights.

One clip of 17 frames at 128x128. The two sides alternate in one process, encode and decode apart
and ``together``, the sum of a pair of each; the figure is the median of the paired ratios (above 1:
ours is faster); ``cpu_ratio_median`` is that of CPU seconds, for a busy machine. Outputs are
compared before anything is timed. Prints one JSON line. With ``--bfloat16`` ours alone is timed
too, in bfloat16 against its own float32: theirs does not run in bfloat16 on a CPU.

    python benchmarks/tokenizer.py [--pairs 12] [--threads 2] [--preset tokenizer_cv8x8x8]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import warnings
from collections.abc import Callable
from typing import Any

warnings.filterwarnings("ignore")

import torch  # noqa: E402
from pairs import Pair, alternate, machine, summary, time_call  # noqa: E402
from torch import Tensor  # noqa: E402

from nemo_cosmos.checkpoint.tokenizer.keys import to_diffusers  # noqa: E402
from nemo_cosmos.models.tokenizer.network.autoencoder import TokenizerNetwork  # noqa: E402
from nemo_cosmos.models.tokenizer.presets import tokenizer_config  # noqa: E402
from nemo_cosmos.platform import default_device  # noqa: E402

NUM_FRAMES, SIDE = 17, 128
TOLERANCE = 1e-5  # of values that are about in [-1, 1]

Call = Callable[[], Tensor]


def build_pair(preset: str) -> tuple[TokenizerNetwork, Any]:
    """Our network and diffusers', with equal random weights and pixels about in [-1, 1]."""
    from diffusers import AutoencoderKLCosmos

    config = tokenizer_config(preset)
    torch.manual_seed(0)
    net = TokenizerNetwork(config).eval()
    with torch.no_grad():
        for parameter in net.decoder.get_submodule("conv_out").parameters():
            parameter.mul_(0.25)
    widths = [config.channels * mult for mult in config.channels_mult]
    reference = AutoencoderKLCosmos(
        encoder_block_out_channels=(config.channels, *widths),
        decode_block_out_channels=(*widths, widths[-1]),
        num_layers=config.num_res_blocks,
        patch_size=config.patch_size,
        spatial_compression_ratio=config.spatial_factor,
        temporal_compression_ratio=config.temporal_factor,
    ).eval()
    reference.load_state_dict(to_diffusers(net))
    return net.to(default_device()), reference.to(default_device())


def build_calls(net: TokenizerNetwork, reference: Any) -> dict[str, tuple[Call, Call]]:
    """What is timed: ours and theirs, by name."""
    generator = torch.Generator().manual_seed(1)
    video = (torch.rand(1, 3, NUM_FRAMES, SIDE, SIDE, generator=generator) * 2 - 1).to(
        default_device()
    )
    latents = reference.encode(video).latent_dist.mode()
    return {
        "encode": (
            lambda: net.encode(video),
            lambda: reference.encode(video).latent_dist.mode(),
        ),
        "decode": (lambda: net.decode(latents), lambda: reference.decode(latents).sample),
    }


def difference(pair: tuple[Call, Call]) -> float:
    """Assert equal numerics; returns the largest difference."""
    largest = (pair[0]() - pair[1]()).abs().max().item()
    assert largest <= TOLERANCE, largest
    return largest


def time_bfloat16(net: TokenizerNetwork, num_runs: int) -> dict[str, float]:
    """Time the whole reconstruction in bfloat16; changes ``net``."""
    net = net.to(torch.bfloat16)
    video = torch.zeros(1, 3, NUM_FRAMES, SIDE, SIDE, device=default_device()).bfloat16()
    times = [time_call(lambda: net(video)).wall for _ in range(num_runs + 1)][1:]
    return {"ours_ms": round(1e3 * statistics.median(times), 2)}


def added(pairs: tuple[Pair, ...]) -> Pair:
    """Several pairs as one: their calls one after the other, of each side."""
    first, *rest = pairs
    for pair in rest:
        first = Pair(first.ours + pair.ours, first.theirs + pair.theirs)
    return first


@torch.inference_mode()
def main() -> None:
    """Parse the command line and print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=12)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--preset", default="tokenizer_cv8x8x8")
    parser.add_argument("--bfloat16", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    net, reference = build_pair(arguments.preset)
    result: dict[str, Any] = {
        "benchmark": "tokenizer",
        "against": "diffusers AutoencoderKLCosmos",
        "preset": arguments.preset,
        "device": str(default_device()),
        "frames": NUM_FRAMES,
    }
    times = {}
    for name, pair in build_calls(net, reference).items():
        largest = difference(pair)
        times[name] = alternate(*pair, arguments.pairs, warm_up=1)
        result[name] = summary(times[name]) | {"difference": largest}
    result["together"] = summary([added(pairs) for pairs in zip(*times.values(), strict=True)])
    if arguments.bfloat16:
        result["bfloat16"] = time_bfloat16(net, arguments.pairs)
    result |= machine()
    print(json.dumps(result))


if __name__ == "__main__":
    main()
