"""How well and how fast the guards judge. Prints one JSON line.

    python benchmarks/guards.py text [--prompts benchmarks/guard_prompts/heldout.tsv] [--rounds 3]

``text``: precision, recall and false-positive rate of the blocklist, of the text classifier and of
both together (refused by either) on a file of labelled prompts, and the milliseconds that each
takes for a prompt (median and 95th percentile, after one warm-up prompt).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
import warnings
from pathlib import Path
from typing import Any

warnings.filterwarnings("ignore")

from nemo_cosmos.guardrails.base import Guard  # noqa: E402
from nemo_cosmos.guardrails.prompt_set import LabelledPrompt, measure, read_prompts  # noqa: E402
from nemo_cosmos.guardrails.registry import build_guard  # noqa: E402

HELD_OUT = Path(__file__).parent / "guard_prompts" / "heldout.tsv"
TEXT_GUARDS = ("keywords", "text_classifier")


def latency_ms(guard: Guard, prompts: list[LabelledPrompt], num_rounds: int) -> dict[str, float]:
    """Milliseconds that the guard takes for one prompt."""
    times_ms = []
    for prompt in prompts * num_rounds:
        start = time.perf_counter()
        guard.check(prompt.text)
        times_ms.append(1e3 * (time.perf_counter() - start))
    return {
        "median_ms": round(statistics.median(times_ms), 3),
        "p95_ms": round(statistics.quantiles(times_ms, n=20)[-1], 3),
    }


def benchmark_text(arguments: argparse.Namespace) -> dict[str, Any]:
    """Quality and latency of the prompt guards."""
    prompts = read_prompts(arguments.prompts)
    result: dict[str, Any] = {"prompts": str(arguments.prompts)}
    allowed: dict[str, dict[LabelledPrompt, bool]] = {}
    for name in TEXT_GUARDS:
        guard = build_guard(name)
        assert isinstance(guard, Guard)
        start = time.perf_counter()
        guard.check("a robot arm picks up a cup")
        load_s = round(time.perf_counter() - start, 2)
        verdicts = {prompt: guard.check(prompt.text) for prompt in prompts}
        failures = [v.reason for v in verdicts.values() if v.category == "guard_failure"]
        assert not failures, failures[0]
        allowed[name] = {prompt: verdict.allowed for prompt, verdict in verdicts.items()}
        result[name] = measure(prompts, allowed[name].__getitem__).to_dict()
        result[name] |= {"first_prompt_s": load_s}
        result[name] |= latency_ms(guard, prompts, arguments.rounds)
    both = measure(prompts, lambda prompt: all(allowed[name][prompt] for name in TEXT_GUARDS))
    return result | {"together": both.to_dict()}


def main() -> None:
    """Parse the command line and print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parts = parser.add_subparsers(required=True)
    text = parts.add_parser("text")
    text.add_argument("--prompts", type=Path, default=HELD_OUT)
    text.add_argument("--rounds", type=int, default=3)
    text.set_defaults(benchmark=benchmark_text)
    arguments = parser.parse_args()
    result = {"benchmark": "guards"} | arguments.benchmark(arguments)
    print(json.dumps(result | {"load_1min": round(os.getloadavg()[0], 2)}))


if __name__ == "__main__":
    main()
