"""One code after the other: our plain decoding against ``LlamaForCausalLM.generate`` of one size.

Both sides have random weights of a preset's size, and take turns to continue the same codes: the
given frames are fed, then ``--codes`` codes are drawn, one a pass. LLaMA has no norms of queries
and keys, and positions along one axis, so its network does a little less. The output is scaled on
both sides until few codes hold most of the probability, as a trained model's do. Prints one JSON
line for each way to sample; a ratio above 1 means that ours is faster.

    python benchmarks/ar_plain.py --preset ar_nano --codes 256 --pairs 5
"""

from __future__ import annotations

import argparse
import json
import math
from typing import Any

import torch
from pairs import alternate, machine, summary
from transformers import LlamaConfig, LlamaForCausalLM

from nemo_cosmos.models.autoregressive.decoding.loops import Job, decode_plain
from nemo_cosmos.models.autoregressive.decoding.sampling import Sampling
from nemo_cosmos.models.autoregressive.decoding.scorer import Scorer
from nemo_cosmos.models.autoregressive.network.config import ARConfig
from nemo_cosmos.models.autoregressive.network.transformer import ARNetwork
from nemo_cosmos.models.autoregressive.presets import get_ar_preset
from nemo_cosmos.platform import by_device, default_device, ensure_model_parallel

SPREAD = 8.0
"""Standard deviation of the scores."""
SAMPLINGS = {"greedy": Sampling(0.0), "top_p": Sampling(1.0, top_p=0.9)}


def ours(config: ARConfig) -> ARNetwork:
    """Our network with random weights."""
    net = ARNetwork(config).to(default_device()).eval().requires_grad_(False)
    torch.nn.init.normal_(net.output.weight, std=SPREAD / math.sqrt(config.hidden_size))
    return net


def theirs(config: ARConfig, num_tokens: int) -> LlamaForCausalLM:
    """A LLaMA of the same size with random weights."""
    llama = LlamaConfig(
        vocab_size=config.vocab_size,
        hidden_size=config.hidden_size,
        intermediate_size=config.ffn_hidden_size,
        num_hidden_layers=config.num_layers,
        num_attention_heads=config.num_attention_heads,
        num_key_value_heads=config.num_query_groups,
        head_dim=config.head_dim,
        max_position_embeddings=num_tokens,
        rms_norm_eps=config.layernorm_epsilon,
        rope_theta=config.rope_theta,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=None,
    )
    net = LlamaForCausalLM(llama).to(default_device(), config.params_dtype).eval()
    torch.nn.init.normal_(net.lm_head.weight, std=SPREAD / math.sqrt(config.hidden_size))
    return net.requires_grad_(False)


def measure(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure each way to sample."""
    ensure_model_parallel()
    torch.manual_seed(0)
    dtype = by_device(torch.float32, torch.bfloat16)
    config = get_ar_preset(args.preset).config(params_dtype=dtype)
    grid = (config.max_frames, config.max_height, config.max_width)
    given = torch.randint(config.vocab_size, (args.given,), device=default_device())
    total = args.given + args.codes
    net, llama = ours(config), theirs(config, math.prod(grid))
    lines = []
    for name, sampling in SAMPLINGS.items():

        def by_us(sampling: Sampling = sampling) -> None:
            decode_plain(Scorer(net, grid), Job([given], [total], [0], sampling))

        def by_them(sampling: Sampling = sampling) -> None:
            sampled = {"temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": 0}
            options = sampled if sampling.temperature else {}
            found = llama.generate(
                given[None],
                attention_mask=torch.ones_like(given[None]),
                min_new_tokens=args.codes,
                max_new_tokens=args.codes,
                do_sample=bool(options),
                cache_implementation=args.their_cache,
                pad_token_id=0,
                **options,
            )
            assert found.shape[1] == total

        figures = summary(alternate(by_us, by_them, args.pairs, warm_up=1))
        lines.append(
            {
                "benchmark": "ar_plain",
                "preset": args.preset,
                "sampling": name,
                "given": args.given,
                "codes": args.codes,
                "their_cache": args.their_cache or "dynamic",
                **figures,
                "ours_codes_per_s": round(1e3 * args.codes / figures["ours_ms"], 1),
                "theirs_codes_per_s": round(1e3 * args.codes / figures["theirs_ms"], 1),
                **machine(),
            }
        )
    return lines


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", default="ar_nano")
    parser.add_argument("--given", type=int, default=256, help="codes that are given")
    parser.add_argument("--codes", type=int, default=256, help="codes that are drawn")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--their-cache", choices=["static"], help="dynamic by default")
    for line in measure(parser.parse_args()):
        print(json.dumps(line))


if __name__ == "__main__":
    main()
