"""What each stage of curation costs, and what much video would need. Prints one JSON line.

    NEMO_COSMOS_SAMPLES=... python benchmarks/curation_stages.py [--height 1080 --fps 30 ...]

Curates real clips with all default stages in this process, and takes the core seconds of every
stage from the run's ``metrics.jsonl``. The model (docs/capacity.md has the formulas and what they
assume) scales them by the pixels of the video that is asked about.

    NEMO_COSMOS_SAMPLES=... python benchmarks/curation_stages.py --baseline CHECKOUT --pairs 3

compares this checkout with another one instead: both curate the same clips in turns, each in a
process of its own, and their shards are compared by checksum. Core seconds hardly depend on what
else the machine does.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from data_curation import curate
from nemo_cosmos.video import probe

#: Clips below the samples' folder, of films, generated scenes, driving and robots.
CLIPS = (
    "autoregressive/*.mp4",
    "curation/*.mp4",
    "driving_multiview/sample_av_mv_input_rgb.mp4",
    "tokenizer/*.mp4",
    "robotics_bridge/videos/*/*/rgb.mp4",
)
DAY_S = 86_400
PETABYTE = 1e15
#: Ranges of stages that Ray's driver hands out: those before *embed*, and *embed* on a GPU.
CALLS_PER_SOURCE = 2


#: Curates a list of videos into a folder; prints the costs of the stages and the shards' checksums.
CURATE = """
import hashlib, json, sys
from pathlib import Path
from data_curation import curate
listed, output = sys.argv[1:]
curate(listed, output)
run = json.loads(Path(output, "metrics.jsonl").read_text().splitlines()[-1])
shards = sorted(Path(output, "v0").rglob("*.tar"))
digests = [hashlib.sha256(shard.read_bytes()).hexdigest() for shard in shards]
print(json.dumps({"stages": run["stages"], "shards": digests}))
"""


def compare(videos: Sequence[Path], baseline: Path, num_pairs: int) -> dict[str, Any]:
    """Core seconds of this checkout and of another one on the same videos, in turns."""
    pairs = []
    for number in range(num_pairs):
        sides = {"ours": Path(__file__).resolve().parents[1], "theirs": baseline.resolve()}
        order = reversed(sides.items()) if number % 2 else sides.items()
        pairs.append({side: run_checkout(checkout, videos) for side, checkout in order})
    seconds = [{side: core_s(found) for side, found in pair.items()} for pair in pairs]
    names = pairs[0]["ours"]["stages"]
    return {
        "pairs": num_pairs,
        "core_ratio_median": statistics.median(each["theirs"] / each["ours"] for each in seconds),
        "core_ratio_min": min(each["theirs"] / each["ours"] for each in seconds),
        "ours_core_s": statistics.median(each["ours"] for each in seconds),
        "theirs_core_s": statistics.median(each["theirs"] for each in seconds),
        "same_shards": all(pair["ours"]["shards"] == pair["theirs"]["shards"] for pair in pairs),
        "ours_by_stage": {
            name: statistics.median(pair["ours"]["stages"][name]["core_s"] for pair in pairs)
            for name in names
        },
        "theirs_by_stage": {
            name: statistics.median(pair["theirs"]["stages"][name]["core_s"] for pair in pairs)
            for name in pairs[0]["theirs"]["stages"]
        },
    }


def run_checkout(checkout: Path, videos: Sequence[Path]) -> dict[str, Any]:
    """What :data:`CURATE` prints with the code of a checkout."""
    with tempfile.TemporaryDirectory() as folder:
        listed = Path(folder, "videos.txt")
        listed.write_text("".join(f"{video.absolute()}\n" for video in videos), encoding="utf-8")
        command = [sys.executable, "-W", "ignore", "-c", CURATE, listed, Path(folder, "out")]
        environment = {**os.environ, "PYTHONPATH": str(checkout)}
        done = subprocess.run(command, cwd=folder, env=environment, check=True, stdout=-1)
        found: dict[str, Any] = json.loads(done.stdout)
        return found


def core_s(found: dict[str, Any]) -> float:
    """Core seconds of all stages."""
    return float(sum(cost["core_s"] for cost in found["stages"].values()))


def measure(videos: Sequence[Path]) -> dict[str, Any]:
    """Curate the videos; costs and yields of a second of source, and its pixels and bytes."""
    infos = [probe(video) for video in videos]
    total_s = sum(info.duration_s for info in infos)
    pixels = sum(info.width * info.height * info.num_frames for info in infos)
    with tempfile.TemporaryDirectory() as folder:
        listed = Path(folder, "videos.txt")
        listed.write_text("".join(f"{video.absolute()}\n" for video in videos), encoding="utf-8")
        output = Path(folder, "out")
        summary = curate(listed, output)
        run = json.loads((output / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[-1])
        kept_bytes = sum(path.stat().st_size for path in (output / "v0").rglob("*.tar"))
    stages = {
        name: {
            "core_s_per_video_s": cost["core_s"] / total_s,
            "core_s_per_gigapixel": cost["core_s"] / pixels * 1e9,
            "video_s_per_core_s": cost["video_s_per_core_s"],
            "clips_per_s": cost["clips_per_s"],
            "cores": cost["core_s"] / max(cost["wall_s"], 1e-9),
        }
        for name, cost in run["stages"].items()
    }
    return {
        "videos": len(videos),
        "video_s": total_s,
        "megapixels_per_video_s": pixels / total_s / 1e6,
        "mbit_per_video_s": 8e-6 * sum(video.stat().st_size for video in videos) / total_s,
        "kept_clips_per_video_s": summary.num_clips / total_s,
        "kept_bytes_per_gigapixel": kept_bytes / pixels * 1e9,
        "rejected": summary.rejected,
        "core_s_per_gigapixel": sum(cost["core_s_per_gigapixel"] for cost in stages.values()),
        "stages": stages,
    }


def model(measured: dict[str, Any], asked: argparse.Namespace) -> dict[str, Any]:
    """What a number of videos a day and a number of petabytes need."""
    gigapixels_per_s = asked.height * asked.width * asked.fps / 1e9
    bytes_per_s = asked.mbit_per_s * 1e6 / 8
    core_s = measured["core_s_per_gigapixel"] * gigapixels_per_s
    kept_bytes_per_s = measured["kept_bytes_per_gigapixel"] * gigapixels_per_s
    day_s = asked.videos_per_day * asked.mean_video_s
    cores = day_s * core_s / (DAY_S * asked.utilisation)
    archive_s = asked.petabytes * PETABYTE / bytes_per_s
    clips_per_day = day_s * measured["kept_clips_per_video_s"]
    return {
        "asked": vars(asked),
        "core_s_per_video_s": core_s,
        "day": {
            "video_hours": day_s / 3600,
            "cores": cores,
            "nodes": cores / asked.cores_per_node,
            "read_mbyte_per_s": day_s * bytes_per_s / DAY_S / 1e6,
            "write_mbyte_per_s": day_s * kept_bytes_per_s / DAY_S / 1e6,
            "clips": clips_per_day,
            "embeddings_gbyte": clips_per_day * 1280 * 2 / 1e9,
            "calls_per_s_of_the_driver": asked.videos_per_day * CALLS_PER_SOURCE / DAY_S,
        },
        "archive": {
            "video_hours": archive_s / 3600,
            "core_hours": archive_s * core_s / 3600,
            "days_on_1000_cores": archive_s * core_s / (1000 * asked.utilisation) / DAY_S,
            "days_on_the_nodes_of_a_day": archive_s / day_s,
            "kept_petabytes": archive_s * kept_bytes_per_s / PETABYTE,
        },
    }


def rounded(value: Any) -> Any:
    """Four figures of every number."""
    if isinstance(value, dict):
        return {name: rounded(item) for name, item in value.items()}
    return float(f"{value:.4g}") if isinstance(value, float) else value


def main() -> None:
    """Parse the command line and print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    for name, default in (
        ("--videos-per-day", 100_000),
        ("--mean-video-s", 60.0),
        ("--petabytes", 1.0),
        ("--height", 1080),
        ("--width", 1920),
        ("--fps", 30.0),
        ("--mbit-per-s", 8.0),
        ("--utilisation", 0.7),
        ("--cores-per-node", 64),
    ):
        parser.add_argument(name, type=type(default), default=default)
    parser.add_argument("--baseline", type=Path, help="another checkout to compare this one with")
    parser.add_argument("--pairs", type=int, default=3, help="runs of each side")
    asked = parser.parse_args()
    baseline, num_pairs = vars(asked).pop("baseline"), vars(asked).pop("pairs")
    samples = Path(os.environ["NEMO_COSMOS_SAMPLES"])
    videos = sorted(path for pattern in CLIPS for path in samples.glob(pattern))
    if baseline is not None:
        result = {"benchmark": "curation_stages", **compare(videos, baseline, num_pairs)}
    else:
        measured = measure(videos)
        result = {"benchmark": "curation_stages", **measured, "model": model(measured, asked)}
    print(json.dumps(rounded(result) | {"load_1min": round(os.getloadavg()[0], 2)}))


if __name__ == "__main__":
    main()
