"""The watermark is read after re-encoding and scaling, and nowhere else."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from nemo_cosmos.errors import VideoError
from nemo_cosmos.guardrails import AuditLog, GuardPolicy, RefusedError
from nemo_cosmos.guardrails.video.watermark import WatermarkFilter
from nemo_cosmos.provenance import watermark as wm
from nemo_cosmos.video import Video, decode, encode_video

IDENTITY = "0badcafe"


def picture(height=480, width=640) -> np.ndarray:
    """A smooth scene with edges and texture."""
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:height, :width] / 100
    scene = 120 + 50 * np.sin(x + 2 * y)[..., None] * np.array([1.0, 0.7, 0.4])
    scene[100:200, 50:300] = 200
    scene[250:400, 300:500] += rng.normal(0, 25, (150, 200, 1))
    return np.clip(scene, 0, 255).astype(np.uint8)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.mean((a.astype(float) - b) ** 2)))


def attacked(frames_THWC, folder: Path, crf: float, scale: float) -> np.ndarray:
    height, width = (round(side * scale) for side in frames_THWC.shape[1:3])
    way = cv2.INTER_AREA
    scaled = np.stack([cv2.resize(f, (width, height), interpolation=way) for f in frames_THWC])
    encode_video(folder / "a.mp4", Video(scaled, 10.0), crf=crf, preset="veryfast")
    return decode(folder / "a.mp4").frames_THWC


def moving(num_frames=6) -> np.ndarray:
    wide = picture(480, 700)
    return np.stack([wide[:, 8 * n : 8 * n + 640] for n in range(num_frames)])


@pytest.mark.parametrize("scale", [1.0, 0.75])
def test_it_survives_crf_28_and_scaling(tmp_path, scale):
    frames = moving()
    marked = wm.embed_watermark(frames, IDENTITY)
    assert psnr(frames, marked) > 38
    found = wm.read_watermark(attacked(marked, tmp_path, 28, scale))
    assert found.identity == IDENTITY
    assert (found.bits == wm.read_watermark(marked).bits).all()


def test_nothing_is_found_where_nothing_is(tmp_path):
    rng = np.random.default_rng(0)
    unmarked = [
        moving(),
        np.zeros((2, 300, 300, 3), np.uint8),
        rng.integers(0, 256, (2, 300, 300, 3), dtype=np.uint8),
    ]
    assert [wm.read_watermark(frames).identity for frames in unmarked] == [None] * 3


def test_the_check_fails_for_random_bits():
    rng = np.random.default_rng(1)
    found = [wm._decode(rng.normal(size=wm.NUM_BITS)) for _ in range(300)]
    assert found.count(None) >= 299


@pytest.mark.parametrize("identity", ["00000000", "ffffffff", "12345678"])
def test_identities_and_bits(identity):
    bits = wm.identity_bits(identity)
    assert wm._decode(np.where(bits, 1.0, -1.0)) == identity
    turned = np.where(bits, 1.0, -1.0)
    turned[[5, 40]] *= -0.01
    assert wm._decode(turned) == identity


@pytest.mark.parametrize("identity", ["", "12", "123456789", "wxyz0000"])
def test_other_identities_are_no_identities(identity):
    with pytest.raises(ValueError):
        wm.embed_watermark(moving(1), identity)


def test_a_blank_video_is_marked_and_the_callers_frames_stay():
    blank = np.full((3, 256, 256, 3), 128, np.uint8)
    marked = wm.embed_watermark(blank, IDENTITY)
    assert (blank == 128).all()
    assert wm.read_watermark(marked).identity == IDENTITY


def test_the_signs_stay_what_they_were():
    # Videos that are out there are read with them. These are SplitMix64's published first numbers.
    published = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    assert wm._random_bits(3).tolist() == [number >> 32 for number in published]
    counts = np.bincount(wm._CARRIER.bit_K)
    assert (counts.min(), counts.max(), counts.sum()) == (189, 190, 10590)


def test_the_filter_marks_and_names_the_identity_in_the_log(tmp_path):
    log = AuditLog(tmp_path / "a.jsonl")
    safe, (verdict,) = GuardPolicy([WatermarkFilter()], audit=log).check_video(moving(2))
    assert verdict.reason == f"invisible watermark {wm.read_watermark(safe).identity}"
    assert verdict.reason in log.path.read_text()


def test_a_small_video_is_an_error_and_so_refused(tmp_path):
    small = np.zeros((2, 255, 300, 3), np.uint8)
    with pytest.raises(VideoError, match="256"):
        wm.embed_watermark(small, IDENTITY)
    policy = GuardPolicy([WatermarkFilter()], audit=AuditLog(tmp_path / "a.jsonl"))
    with pytest.raises(RefusedError, match="256"):
        policy.check_video(small)


def test_real_clips(samples_dir, tmp_path):
    for name in ("autoregressive/2.mp4", "curation/test_clip_10s.mp4"):
        frames = decode(samples_dir / name, start_s=0.0, end_s=0.3).frames_THWC
        marked = wm.embed_watermark(frames, IDENTITY)
        assert psnr(frames, marked) > 43
        assert wm.read_watermark(attacked(marked, tmp_path, 28, 0.75)).identity == IDENTITY
