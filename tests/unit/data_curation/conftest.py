"""Small raw videos for the tests of curation."""

from __future__ import annotations

import json
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from data_curation.clip import Clip
from data_curation.sidecars import stem_of_array
from data_curation.store import ClipStore
from nemo_cosmos.testing.chat_server import ChatServer, num_pictures
from nemo_cosmos.video import Video, encode_video, probe


def build_scene(seed: int, num_frames: int, height: int = 64, width: int = 96) -> np.ndarray:
    """Frames of a coloured texture of its own that drifts to the right by two pixels a frame."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (height // 8, width // 8, 3)).astype(np.uint8)
    picture = np.kron(coarse, np.ones((8, 8, 1), dtype=np.uint8))
    return np.stack([np.roll(picture, 2 * index, axis=1) for index in range(num_frames)])


@pytest.fixture
def scene():
    return build_scene


@pytest.fixture(scope="session")
def build_scene_once():
    return build_scene


@pytest.fixture(scope="session")
def write_sound_once():
    return encode_with_sound


@pytest.fixture
def make_clip():
    return build_clip


@pytest.fixture
def write_sound():
    return encode_with_sound


@pytest.fixture
def server() -> Iterator[ChatServer]:
    """The server of a vision-language model, which describes every clip alike."""
    server = ChatServer(lambda body: f" A scene,\n seen in {num_pictures(body)}. ")
    yield server
    server.close()


@pytest.fixture
def store(tmp_path: Path) -> ClipStore:
    return ClipStore(tmp_path / "out")


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Four sources: two shots in one file, one with sidecars, one still, one that is broken."""
    folder = tmp_path / "raw"
    two_shots = np.concatenate([build_scene(1, 20), build_scene(2, 25)])
    encode_video(folder / "a two shots.mp4", Video(two_shots, fps=10), keyframe_interval=7)
    encode_video(folder / "sub" / "robot.mp4", Video(build_scene(3, 24), fps=10))
    words = {"language": "push the  red block", "task": "push", "fps": 99}
    (folder / "sub" / "robot.json").write_text(json.dumps(words))
    actions = np.arange(23 * 7, dtype=np.float32).reshape(23, 7)
    np.save(folder / "sub" / "robot.action.npy", actions)
    encode_video(folder / "still.mp4", Video(np.repeat(build_scene(4, 1), 25, axis=0), fps=10))
    (folder / "broken.mp4").write_bytes(b"this is no video" * 100)
    return folder


def build_clip(source: Path, name: str | None = None, span: tuple[int, int] | None = None) -> Clip:
    """A probed clip of a whole source or a span of it, with an id."""
    info = probe(source)
    start, end = span or (0, info.num_frames)
    return Clip(
        source=source,
        name=name or source.name,
        arrays=tuple(
            p for p in sorted(source.parent.iterdir()) if stem_of_array(p.name) == source.stem
        ),
        info=info,
        start_frame=start,
        end_frame=end,
        span_s=(start / info.fps, end / info.fps),
        clip_id=f"clip-{start}-{end}",
    )


def encode_with_sound(path: Path, frames: np.ndarray | None = None) -> None:
    """An mp4 with a second of sound, and pictures only when frames are given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        sound = container.add_stream("aac", rate=48000)
        sound.layout = "mono"
        if frames is not None:
            video = container.add_stream("libx264", rate=10)
            video.height, video.width = frames.shape[1:3]
            video.pix_fmt = "yuv420p"
            for frame in frames:
                container.mux(video.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(video.encode(None))
        for index in range(48):
            samples = np.zeros((1, 1000), dtype=np.float32)
            frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = 48000, 1000 * index, Fraction(1, 48000)
            container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
