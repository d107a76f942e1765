"""Small shards of every kind."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from nemo_cosmos.data.loading.latents import pack_embedding, pack_latent
from nemo_cosmos.data.schema import ClipRecord
from nemo_cosmos.data.shards.writer import CuratedWriter, ShardWriter
from nemo_cosmos.video import Video, encode_video

NUM_FRAMES, HEIGHT, WIDTH, FPS = 25, 64, 96, 24.0


def npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


@pytest.fixture
def make_record() -> Callable[..., ClipRecord]:
    def make(key: str = "clip", **changes) -> ClipRecord:
        values = {
            "key": key,
            "source": "raw/film.mp4",
            "span_s": (1.0, 1.0 + NUM_FRAMES / FPS),
            "fps": FPS,
            "num_frames": NUM_FRAMES,
            "width": WIDTH,
            "height": HEIGHT,
            "caption": f"the square of {key} moves right",
            "caption_source": "template",
        }
        return ClipRecord(**{**values, **changes})

    return make


@pytest.fixture
def mp4(tmp_path, moving_square_THWC) -> bytes:
    encode_video(tmp_path / "square.mp4", Video(moving_square_THWC, fps=FPS), crf=1)
    return (tmp_path / "square.mp4").read_bytes()


@pytest.fixture
def actions() -> np.ndarray:
    rows = np.arange(NUM_FRAMES - 1, dtype=np.float32)
    return np.repeat(rows[:, None], 7, axis=1)


@pytest.fixture
def curated(tmp_path, make_record, mp4, actions) -> Path:
    """Three clips with actions, in two shards of cosmos-curate's layout."""
    root = tmp_path / "curated data"
    with CuratedWriter(root, max_bytes=3 * len(mp4)) as writer:
        for number in range(3):
            record = make_record(f"clip-{number}", caption=f"the square moves {number % 2}")
            writer.add(record, {"mp4": mp4, "action.npy": npy(actions)})
    return root


@pytest.fixture
def write_latents(tmp_path, make_record) -> Callable[..., Path]:
    """Write tokenised samples whose latent holds their number."""

    def write(
        name: str = "latents",
        count: int = 10,
        num_frames: int = 17,
        height: int = 64,
        width: int = 96,
        tokens: int = 5,
        first: int = 0,
        with_actions: bool = True,
        **changes,
    ) -> Path:
        folder = tmp_path / name
        with ShardWriter(folder, max_bytes=60_000) as writer:
            for number in range(first, first + count):
                shape = (16, 1 + (num_frames - 1) // 8, height // 8, width // 8)
                files = {
                    "latent.safetensors": pack_latent(torch.full(shape, number / 100)),
                    "t5.safetensors": pack_embedding(torch.ones(tokens, 8)),
                }
                if with_actions:
                    files["action.npy"] = npy(np.full((num_frames - 1, 7), number, np.float32))
                size = {"num_frames": num_frames, "height": height, "width": width}
                writer.add(make_record(f"s{number}", **{**size, **changes}), files)
        return folder

    return write
