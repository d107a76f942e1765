"""How well and how fast the guards judge. Prints one JSON line.

    python benchmarks/guards.py text [--prompts FILE.tsv ...] [--rounds 3]
    python benchmarks/guards.py video CLIP ... [--frames 32] [--size 704x1280]
    python benchmarks/guards.py watermark CLIP ... [--seconds 0.6]

``text``: precision, recall and false-positive rate of the blocklist, of the text classifier, of the
language guard and of all together (refused by one) on a file of labelled prompts, and the
milliseconds that each takes for a prompt (median and 95th percentile, after one warm-up prompt).

``video``: milliseconds that each video guard takes for a frame of a clip, and for loading.

The face blur has a benchmark of its own, ``benchmarks/faces.py``.

``watermark``: bits that are read wrongly from clips that were marked, re-encoded (H.264, CRF 28)
and scaled to 75 %, and the PSNR that the mark costs.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

warnings.filterwarnings("ignore")

import numpy as np  # noqa: E402

from nemo_cosmos.guardrails.base import Guard  # noqa: E402
from nemo_cosmos.guardrails.registry import build_guard  # noqa: E402
from nemo_cosmos.guardrails.text.prompt_set import (  # noqa: E402
    LabelledPrompt,
    measure,
    read_prompts,
    wilson_interval,
)
from nemo_cosmos.provenance import watermark  # noqa: E402
from nemo_cosmos.video import Video, decode, encode_video, resize_frames  # noqa: E402

HELD_OUT = Path(__file__).parent / "guard_prompts" / "heldout.tsv"
TEXT_GUARDS = ("keywords", "text_classifier", "language")
VIDEO_GUARDS = ("video_classifier", "face_blur", "watermark")


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
    prompts = [prompt for file in arguments.prompts for prompt in read_prompts(file)]
    result: dict[str, Any] = {"prompts": [str(file) for file in arguments.prompts]}
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
        if arguments.rounds:
            result[name] |= latency_ms(guard, prompts, arguments.rounds)

    def passes(prompt: LabelledPrompt) -> bool:
        return all(allowed[name][prompt] for name in TEXT_GUARDS)

    together = measure(prompts, passes).to_dict()
    return result | {"together": together, "refused": refused_by_kind(prompts, passes)}


def refused_by_kind(
    prompts: list[LabelledPrompt], passes: Callable[[LabelledPrompt], bool]
) -> dict[str, str]:
    """Counts of refused prompts, with Wilson's intervals of 95 %: all, and by kind."""
    groups: dict[str, list[bool]] = {}
    for prompt in prompts:
        group = "harmful" if prompt.harmful else "harmless"
        for name in (group, f"{group} {prompt.kind}"):
            groups.setdefault(name, []).append(not passes(prompt))
    described = {}
    for name, refused in sorted(groups.items()):
        low, high = wilson_interval(sum(refused), len(refused))
        described[name] = f"{sum(refused)} of {len(refused)} [{low:.3f}, {high:.3f}]"
    return described


def benchmark_video(arguments: argparse.Namespace) -> dict[str, Any]:
    """Latency of the video guards that are active by default."""
    height, width = (int(side) for side in arguments.size.split("x"))
    frames_THWC = np.concatenate(
        [decode(clip, size=(height, width)).frames_THWC for clip in arguments.clips]
    )[: arguments.frames]
    result: dict[str, Any] = {"frames": len(frames_THWC), "size": arguments.size}
    for name in VIDEO_GUARDS:
        guard = build_guard(name)
        call = guard.check if isinstance(guard, Guard) else guard.apply
        start = time.perf_counter()
        call(frames_THWC[:1])
        first_s = time.perf_counter() - start
        start = time.perf_counter()
        call(frames_THWC)
        each_ms = 1e3 * (time.perf_counter() - start) / len(frames_THWC)
        result[name] = {
            "ms_per_frame": round(each_ms, 2),
            "frames_per_s": round(1e3 / each_ms, 1),
            "first_frame_s": round(first_s, 2),
        }
    return result


def benchmark_watermark(arguments: argparse.Namespace) -> dict[str, Any]:
    """Bit errors of the watermark after re-encoding and scaling."""
    clips, errors, num_bits = {}, {"none": 0, "crf28": 0, "crf28_scale75": 0}, 0
    for number, clip in enumerate(arguments.clips):
        video = decode(clip, start_s=0.0, end_s=arguments.seconds)
        identity = f"{(number + 1) * 0x9E3779B1 % 2**32:08x}"
        start = time.perf_counter()
        marked_THWC = watermark.embed_watermark(video.frames_THWC, identity)
        embed_ms = 1e3 * (time.perf_counter() - start) / video.num_frames
        squares = (marked_THWC.astype(np.float32) - video.frames_THWC) ** 2
        wanted_B = watermark.identity_bits(identity)
        wrong = {
            "none": watermark.read_watermark(marked_THWC),
            "crf28": watermark.read_watermark(_reencoded(marked_THWC, video.fps, 1.0)),
            "crf28_scale75": watermark.read_watermark(_reencoded(marked_THWC, video.fps, 0.75)),
        }
        counts = {name: int((found.bits != wanted_B).sum()) for name, found in wrong.items()}
        clips[f"{Path(clip).parent.name}/{Path(clip).name}"] = {
            "frames": video.num_frames,
            "size": f"{video.height}x{video.width}",
            "psnr_db": round(float(10 * np.log10(255**2 / squares.mean())), 1),
            "wrong_bits": counts,
            "identity_read": wrong["crf28_scale75"].identity == identity,
            "found_without_mark": watermark.read_watermark(video.frames_THWC).identity is not None,
            "embed_ms_per_frame": round(embed_ms, 1),
        }
        errors = {name: errors[name] + counts[name] for name in errors}
        num_bits += watermark.NUM_BITS
    rates = {name: round(count / num_bits, 5) for name, count in errors.items()}
    return {"clips": clips, "bits": num_bits, "bit_error_rate": rates}


def _reencoded(frames_THWC: np.ndarray, fps: float, scale: float) -> np.ndarray:
    """The frames after scaling and H.264 at CRF 28."""
    size = tuple(2 * round(side * scale / 2) for side in frames_THWC.shape[1:3])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        encode_video(path, Video(resize_frames(frames_THWC, size), fps), crf=28)
        return decode(path).frames_THWC


def main() -> None:
    """Parse the command line and print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parts = parser.add_subparsers(required=True)
    text = parts.add_parser("text")
    text.add_argument("--prompts", type=Path, nargs="+", default=[HELD_OUT])
    text.add_argument("--rounds", type=int, default=3, help="how often to time; 0: never")
    text.set_defaults(benchmark=benchmark_text)
    for name, benchmark in (
        ("video", benchmark_video),
        ("watermark", benchmark_watermark),
    ):
        part = parts.add_parser(name)
        part.add_argument("clips", nargs="+")
        part.add_argument("--frames", type=int, default=32)
        part.add_argument("--size", default="704x1280")
        part.add_argument("--seconds", type=float, default=0.6)
        part.set_defaults(benchmark=benchmark)
    arguments = parser.parse_args()
    result = {"benchmark": "guards"} | arguments.benchmark(arguments)
    print(json.dumps(result | {"load_1min": round(os.getloadavg()[0], 2)}))


if __name__ == "__main__":
    main()
