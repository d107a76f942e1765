"""Deduplication: time, memory and what is left of planted duplicates, as one JSON line.

``vectors``: many embeddings with planted near-copies, through k-means and cosine within clusters.
``clips``: real clips, each with copies as they are found in the wild (encoded harder, scaled, other
frame rate, graded, cropped, with a logo), through the hash and the embeddings of the product.

    python benchmarks/deduplicate.py vectors --num 1000000 --dim 512
    NEMO_COSMOS_SAMPLES=... python benchmarks/deduplicate.py clips
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[1]))

from data_curation.deduplication.clusters import choose_num_clusters
from data_curation.deduplication.perceptual import clip_signature, perceptual_pairs
from data_curation.deduplication.semantic import KEPT, semantic_duplicates
from data_curation.deduplication.vectors import VectorFile, write_vectors
from data_curation.frames import spread
from data_curation.stages.deduplicate import MIN_COSINE, best_of_pairs
from nemo_cosmos.assets import asset_path
from nemo_cosmos.perception.encoders import EMBEDDED, load_encoder, pool
from nemo_cosmos.video import Video, decode, encode_video, probe

BLOCK = 16384


def main() -> None:
    """Run one part and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("part", choices=("vectors", "clips"))
    parser.add_argument("--num", type=int, default=1_000_000, help="embeddings, copies included")
    parser.add_argument("--dim", type=int, default=512)
    parser.add_argument("--copies", type=float, default=0.3, help="share of planted copies")
    parser.add_argument("--per-video", type=int, default=2, help="clips of each real video")
    parser.add_argument("--min-cosine", type=float, default=MIN_COSINE)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    measure = measure_vectors if arguments.part == "vectors" else measure_clips
    print(json.dumps({"benchmark": f"deduplicate {arguments.part}", **measure(arguments)}))


def measure_vectors(arguments: argparse.Namespace) -> dict[str, Any]:
    """Plant copies among clustered vectors and count those that are left."""
    rng = np.random.default_rng(arguments.seed)
    num_copies = int(arguments.num * arguments.copies)
    num_originals = arguments.num - num_copies
    # Copies of copies, too: a third of them come from one original in five.
    favourites = rng.integers(0, max(1, num_originals // 5), num_copies // 3)
    others = rng.integers(0, num_originals, num_copies - len(favourites))
    source = np.concatenate([favourites, others])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vectors.npy"
        blocks = _planted(arguments, num_originals, source)
        write_vectors(path, blocks, arguments.num, arguments.dim)
        rank_N = rng.permutation(arguments.num)
        before_bytes = _peak_bytes()
        started_s = time.perf_counter()
        with VectorFile(path) as vectors:
            duplicate_of, _ = semantic_duplicates(vectors, rank_N, arguments.min_cosine)
        seconds = time.perf_counter() - started_s
    group = np.concatenate([np.arange(num_originals), source])
    kept = duplicate_of == KEPT
    left = int(kept.sum()) - len(np.unique(group[kept]))
    removed = np.flatnonzero(~kept)
    right = group[removed] == group[duplicate_of[removed]]
    return {
        "vectors": arguments.num,
        "dim": arguments.dim,
        "clusters": choose_num_clusters(arguments.num, arguments.num),
        "planted": num_copies,
        "seconds": round(seconds, 1),
        "peak_rss_mb": round(_peak_bytes() / 1e6),
        "peak_rss_before_mb": round(before_bytes / 1e6),
        "duplicates_left_percent": round(100 * left / max(1, int(kept.sum())), 4),
        "precision": round(float(right.mean()) if len(removed) else 1.0, 6),
    }


def _planted(
    arguments: argparse.Namespace, num_originals: int, source: NDArray[np.int64]
) -> Iterator[NDArray[np.float16]]:
    """Originals around scenes of some fifty each, then copies at a cosine of 0.975 to 0.9999."""
    dim, num_scenes = arguments.dim, max(1, num_originals // 50)
    common = _normal(arguments.seed + 1, 0, dim)

    def originals(rows: NDArray[np.int64]) -> NDArray[np.float32]:
        scene = np.concatenate(
            [_normal(arguments.seed + 2, row % num_scenes, 1, dim) for row in rows]
        )
        own = np.concatenate([_normal(arguments.seed + 3, row, 1, dim) for row in rows])
        return _unit(0.6 * common + scene + 0.6 * own)

    for start in range(0, num_originals, BLOCK):
        yield originals(np.arange(start, min(start + BLOCK, num_originals))).astype(np.float16)
    rng = np.random.default_rng(arguments.seed + 4)
    for start in range(0, len(source), BLOCK):
        first = originals(source[start : start + BLOCK])
        noise = rng.standard_normal(first.shape, dtype=np.float32)
        across = _unit(noise - (noise * first).sum(axis=1, keepdims=True) * first)
        # Two copies of one original are at most twice this angle apart.
        angle = np.arccos(rng.uniform(0.993, 0.9999, (len(first), 1))).astype(np.float32)
        yield (np.cos(angle) * first + np.sin(angle) * across).astype(np.float16)


def _normal(seed: int, row: int, dim: int) -> NDArray[np.float32]:
    rng = np.random.default_rng((seed, int(row)))
    return rng.standard_normal((1, dim), dtype=np.float32) / np.float32(np.sqrt(dim))


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def measure_clips(arguments: argparse.Namespace) -> dict[str, Any]:
    """Cut real clips, make copies of them, and run both sieves."""
    originals = list(_real_clips(arguments.per_video))
    signatures, vectors, groups, kinds = [], [], [], []
    encoder = load_encoder(EMBEDDED)
    started_s = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        for number, clip in enumerate(originals):
            for kind, content in _copies(clip, Path(folder)):
                numbers = spread(probe(content).num_frames, 8)
                frames = decode(content, frame_indices=numbers, size=encoder.image_size).frames_THWC
                vectors.append(pool(encoder.encode(frames), kind)[0])
                signatures.append(clip_signature(frames))
                groups.append(number)
                kinds.append(kind)
        group, kind_N = np.array(groups), np.array(kinds)
        rank = np.argsort(np.argsort(kind_N != "original", kind="stable"), kind="stable")
        pairs = perceptual_pairs(np.stack(signatures))
        by_look = best_of_pairs(pairs, rank, 0)
        path = Path(folder) / "vectors.npy"
        write_vectors(path, [np.stack(vectors).astype(np.float16)], len(vectors), len(vectors[0]))
        with VectorFile(path) as file:
            by_meaning, _ = semantic_duplicates(file, rank, arguments.min_cosine)
    kept = (by_look == KEPT) & (by_meaning == KEPT)
    copies = kind_N != "original"
    cosine = np.stack(vectors) @ np.stack(vectors).T
    same = group[:, None] == group[None, :]
    return {
        "originals": len(originals),
        "copies": int(copies.sum()),
        "seconds": round(time.perf_counter() - started_s, 1),
        "left": int((kept & copies).sum()),
        "left_by_kind": {
            name: int((kept & (kind_N == name)).sum()) for name in sorted(set(kinds) - {"original"})
        },
        "perceptual": _scores(by_look, group, copies),
        "semantic": _scores(by_meaning, group, copies),
        "cosine_of_copies_1st_percentile": round(float(np.percentile(cosine[same], 1)), 4),
        "cosine_of_others_99th_percentile": round(float(np.percentile(cosine[~same], 99)), 4),
        "cosine_of_others_highest": round(float(cosine[~same].max()), 4),
    }


def _scores(
    duplicate_of: NDArray[np.int64], group: NDArray[np.int64], copies: NDArray[np.bool_]
) -> dict[str, float]:
    removed = np.flatnonzero(duplicate_of != KEPT)
    right = group[removed] == group[duplicate_of[removed]]
    return {
        "recall": round(float((duplicate_of[copies] != KEPT).mean()), 4),
        "precision": round(float(right.mean()) if len(removed) else 1.0, 4),
        "wrong": int((~right).sum()),
    }


def _real_clips(most: int, seconds: float = 2.0, height: int = 240) -> Iterator[Video]:
    """At most so many pieces of two seconds of every real video at hand, evenly spread."""
    names = sorted(Path(os.environ.get("NEMO_COSMOS_SAMPLES", "")).rglob("*.mp4"))
    names += [asset_path(name) for name in ("video_bikes", "video_carphone", "video_bigbuckbunny")]
    for path in names:
        info = probe(path)
        width = 2 * round(height * info.width / info.height / 2)
        length = round(seconds * info.fps)
        starts = range(0, info.num_frames - length + 1, length)
        for start in starts[:: -(-len(starts) // most) or 1]:
            numbers = np.arange(start, start + length)
            frames = decode(path, frame_indices=numbers, size=(height, width)).frames_THWC
            yield Video(frames, fps=info.fps)


def _copies(clip: Video, folder: Path) -> Iterator[tuple[str, bytes]]:
    """The clip and what people make of it."""
    frames = clip.frames_THWC
    height, width = frames.shape[1:3]
    logo = frames.copy()
    logo[:, 8:32, width - 72 : width - 8] = (255, 220, 0)
    brighter = np.clip(frames * 1.15 + 8, 0, 255).astype(np.uint8)
    inner = frames[:, height // 50 : -height // 50, width // 50 : -width // 50]
    kinds = {
        "original": (frames, clip.fps, 18),
        "encoded harder": (frames, clip.fps, 36),
        "half size": (_resized(frames, (width // 4 * 2, height // 4 * 2)), clip.fps, 24),
        "half frame rate": (frames[::2], clip.fps / 2, 23),
        "brighter, more contrast": (brighter, clip.fps, 23),
        "cropped by 4 %": (inner, clip.fps, 23),
        "logo": (logo, clip.fps, 23),
    }
    for kind, (changed, fps, crf) in kinds.items():
        even = changed[:, : changed.shape[1] // 2 * 2, : changed.shape[2] // 2 * 2]
        path = folder / "clip.mp4"
        encode_video(path, Video(np.ascontiguousarray(even), fps=fps), crf=crf)
        yield kind, path.read_bytes()


def _resized(frames_THWC: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    return np.stack(
        [cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in frames_THWC]
    )


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
