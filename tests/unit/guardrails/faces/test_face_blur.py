"""Faces are pixelated on a copy; everything that goes wrong refuses."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from nemo_cosmos import assets
from nemo_cosmos.errors import AssetError
from nemo_cosmos.guardrails import AuditLog, GuardPolicy, RefusedError
from nemo_cosmos.guardrails.faces.boxes import SCORE_THRESHOLD, Face
from nemo_cosmos.guardrails.faces.face_blur import (
    EmbeddedDetector,
    FaceBlur,
    pixelate,
)
from nemo_cosmos.guardrails.faces.yunet import YuNetDetector
from nemo_cosmos.guardrails.registry import build_guard
from nemo_cosmos.guardrails.settings import GuardSettings
from nemo_cosmos.video import decode, resize_frames


class FixedDetector:
    """Reports the same face in every frame."""

    def __init__(self, face: Face) -> None:
        self.face = face

    def __call__(self, frame_HWC):
        return [self.face]


def noise(shape=(2, 80, 100, 3)) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def test_a_face_becomes_five_by_five_blocks_and_the_rest_stays():
    frames = noise()
    before = frames.copy()
    safe, verdict = FaceBlur(FixedDetector(Face(30, 20, 40, 40, 0.9))).apply(frames)
    assert (frames == before).all()
    assert verdict.allowed and "2 of 2" in verdict.reason
    inside = safe[0, 16:64, 26:74]
    assert len(np.unique(inside.reshape(-1, 3), axis=0)) <= 25
    mask = np.ones(frames.shape[1:3], dtype=bool)
    mask[16:64, 26:74] = False
    assert (safe[:, mask] == before[:, mask]).all()


def test_a_face_at_the_border_is_cut_to_the_frame():
    frames = noise()
    safe, _ = FaceBlur(FixedDetector(Face(-10, -10, 40, 40, 0.9))).apply(frames)
    assert len(np.unique(safe[0, :34, :34].reshape(-1, 3), axis=0)) <= 25


def test_a_face_below_twenty_pixels_stays():
    frames = noise()
    safe, verdict = FaceBlur(FixedDetector(Face(30, 20, 19, 40, 0.9))).apply(frames)
    assert (safe == frames).all()
    assert "0 of 2" in verdict.reason


def test_a_face_outside_the_frame_changes_nothing():
    frame = noise()[0]
    before = frame.copy()
    pixelate(frame, Face(500, 500, 40, 40, 0.9))
    assert (frame == before).all()


def test_the_verdict_counts_and_says_when_little_is_left():
    frames = noise((4, 80, 100, 3))

    small = FaceBlur(FixedDetector(Face(30, 20, 20, 20, 0.9))).apply(frames)[1]
    assert small.measures == {
        "faces": 1,
        "frames": 4,
        "frames_pixelated": 4,
        "share_pixelated": pytest.approx(24 * 24 / 8000, abs=1e-3),
        "largest_share_pixelated": pytest.approx(24 * 24 / 8000, abs=1e-3),
    }
    assert "little of the picture" not in small.reason
    large = FaceBlur(FixedDetector(Face(0, 0, 100, 80, 0.9))).apply(frames)[1]
    assert large.allowed and large.measures["largest_share_pixelated"] > 0.9
    assert "faces fill up to 100% of a frame, so little of the picture is left" in large.reason
    assert "--disable-guard face_blur" in large.reason
    none = FaceBlur(FixedDetector(Face(0, 0, 10, 10, 0.9))).apply(frames)[1]
    assert none.measures["faces"] == none.measures["frames_pixelated"] == 0


def test_an_uncertain_face_is_covered_only_after_a_second_look():
    frames = noise()

    class Careful(FixedDetector):
        def __init__(self, is_face: bool) -> None:
            super().__init__(Face(30, 20, 40, 40, 0.9, certain=False))
            self.is_face, self.looks = is_face, 0

        def confirm(self, frame_HWC, face):
            assert any((frame_HWC == frame).all() for frame in frames)
            self.looks += 1
            return self.is_face

    for is_face in (True, False):
        detector = Careful(is_face)
        safe, _ = FaceBlur(detector).apply(frames)
        assert (safe != frames).any() == is_face
        assert detector.looks == 2  # each frame once, though tracks are followed both ways


def test_bad_frames_refuse():
    assert not FaceBlur().apply(np.zeros((0, 8, 8, 3), np.uint8))[1].allowed


@pytest.mark.parametrize("error", [RuntimeError("broken"), MemoryError()])
def test_a_detector_that_fails_refuses_the_video(error, tmp_path):
    def broken(frame_HWC):
        raise error

    policy = GuardPolicy([FaceBlur(broken)], audit=AuditLog(tmp_path / "a.jsonl"))
    with pytest.raises(RefusedError, match=type(error).__name__):
        policy.check_video(noise())


def test_missing_weights_refuse_the_video(monkeypatch, tmp_path):
    def missing(name):
        raise AssetError("no network")

    monkeypatch.setattr("nemo_cosmos.guardrails.faces.retinaface_mobile.asset_path", missing)
    policy = GuardPolicy([FaceBlur()], audit=AuditLog(tmp_path / "a.jsonl"))
    with pytest.raises(RefusedError, match="no network"):
        policy.check_video(noise())


def test_weights_that_are_no_model_refuse(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"not a model")
    with pytest.raises(cv2.error):
        YuNetDetector(tmp_path / "model.onnx")


@pytest.fixture(scope="module")
def face_frames() -> np.ndarray:
    """Twelve frames of a talking man, 144x176; skipped where the packages are unavailable."""
    import av

    try:
        paths: list[Path] = [
            assets.asset_path(name)
            for name in ("video_carphone", "yunet_face_detector", "retinaface_mobilenet")
        ]
    except AssetError as error:
        pytest.skip(str(error))
    with av.open(str(paths[0])) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    return np.stack(frames[::10])


@pytest.mark.parametrize("size", [None, (704, 576), (90, 74)])
def test_a_real_face_is_found_in_every_frame_and_not_after_the_blur(face_frames, size):
    frames = face_frames if size is None else np.stack([cv2.resize(f, size) for f in face_frames])
    safe, verdict = FaceBlur().apply(frames)
    assert f"{len(frames)} of {len(frames)}" in verdict.reason
    detector = EmbeddedDetector()
    sure = [[face for face in detector(frame) if face.score >= SCORE_THRESHOLD] for frame in safe]
    assert sure == [[]] * len(safe)


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_face_that_lies_or_stands_on_its_head_is_covered(face_frames, quarters):
    frames = np.ascontiguousarray(np.rot90(face_frames[:3], quarters, axes=(1, 2)))
    assert FaceBlur().apply(frames)[1].measures["frames_pixelated"] == 3


@pytest.mark.parametrize("sigma_px", [8, 11, 14])
def test_clouds_above_trees_out_of_focus_are_no_face(face_frames, samples_dir, sigma_px):
    """RetinaFace alone sees one in every frame, at up to 0.94."""
    clip = samples_dir / "autoregressive" / "2.mp4"
    frames = decode(clip, frame_indices=[36, 39, 42], size=(400, 640)).frames_THWC
    frames = resize_frames(np.ascontiguousarray(frames[:, 36:376, 93:478]), (256, 448))
    frames = np.stack([cv2.GaussianBlur(frame, (0, 0), sigma_px) for frame in frames])
    assert (FaceBlur().apply(frames)[0] == frames).all()


def test_frames_without_a_face_stay(face_frames):
    frames = np.zeros((2, 64, 96, 3), np.uint8)
    frames[:, 10:30, 10:30] = 200
    safe, verdict = FaceBlur().apply(frames)
    assert (safe == frames).all()
    assert verdict.allowed


def test_a_frame_in_which_the_detector_fails_is_covered_by_the_track(face_frames):
    class Blinking(EmbeddedDetector):
        """Sees nothing in every third frame."""

        count = 0

        def __call__(self, frame_HWC):
            self.count += 1
            return [] if self.count % 3 == 2 else super().__call__(frame_HWC)

    safe, verdict = FaceBlur(Blinking()).apply(face_frames)
    assert f"{len(face_frames)} of {len(face_frames)}" in verdict.reason
    detector = EmbeddedDetector()
    assert not [f for frame in safe for f in detector(frame) if f.score >= SCORE_THRESHOLD]


def test_settings_name_the_reference_checkpoint_and_a_missing_one_refuses(tmp_path):
    settings = GuardSettings(retinaface=str(tmp_path / "Resnet50_Final.pth"))
    guard = build_guard("face_blur", settings)
    policy = GuardPolicy([guard], audit=AuditLog(tmp_path / "a.jsonl"))
    with pytest.raises(RefusedError, match="Resnet50_Final"):
        policy.check_video(noise())
