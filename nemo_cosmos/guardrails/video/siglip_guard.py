"""The reference's video content-safety filter: SigLIP features and a small classifier.

It is off unless a site enables it (``guardrails.enabled=[siglip]``), because not everyone may
download its weights: the reference's ``safety_filter.pt`` (or the same as safetensors) and the
SigLIP that it is built on.

Each frame's pooled SigLIP features (Zhai et al. 2023, arXiv:2303.15343), scaled to length one, go
through three linear layers to seven classes. One frame that is most likely unsafe makes the video
unsafe.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nemo_cosmos.errors import GuardrailError
from nemo_cosmos.guardrails.base import FAILURE, INVALID, SAFE, GuardKind, Verdict, video_problem
from nemo_cosmos.guardrails.settings import where_to_set
from nemo_cosmos.guardrails.video.video_classifier import BATCH_SIZE, FRAMES_PER_S
from nemo_cosmos.perception.weights import load_exactly, read_state
from nemo_cosmos.platform import default_device

if TYPE_CHECKING:
    from torch import nn

SIGLIP_MODEL = "google/siglip-so400m-patch14-384"
WHAT = "the video content-safety classifier"
#: The classes by their number in the checkpoint; the first is the only one that passes.
CLASSES = (
    SAFE, "sexual", "violence", "drugs", "child_abuse", "hate_and_harassment", "self_harm",
)  # fmt: skip
FEATURE_SIZE = 1152
HIDDEN_SIZES = (512, 256)
KEY_PREFIX = "network.layers."


def make_classifier(feature_size: int = FEATURE_SIZE) -> nn.Sequential:
    """Build the classifier; 724,999 parameters at the reference's feature size."""
    from torch import nn

    first, second = HIDDEN_SIZES
    return nn.Sequential(
        nn.Linear(feature_size, first), nn.BatchNorm1d(first), nn.ReLU(),
        nn.Linear(first, second), nn.BatchNorm1d(second), nn.ReLU(),
        nn.Linear(second, len(CLASSES)),
    )  # fmt: skip


def read_classifier(path: Path, feature_size: int = FEATURE_SIZE) -> nn.Sequential:
    """Read the reference's checkpoint.

    Raises:
        CheckpointError: it is missing, damaged, or its names and shapes are not the classifier's.
    """
    state = read_state(path, WHAT)
    net = make_classifier(feature_size)
    load_exactly(net, {n.removeprefix(KEY_PREFIX): t for n, t in state.items()}, path, WHAT)
    return net.eval()


class SiglipClassifier:
    """Class probabilities of frames.

    Args:
        checkpoint: the classifier's file.
        siglip: local folder or name on the hub; only safetensors are read, and none of its code
            runs.

    Raises:
        CheckpointError: the classifier's file does not hold its weights.
        GuardrailError: the SigLIP lacks weights.
        OSError: the SigLIP is unavailable.
    """

    def __init__(self, checkpoint: Path, siglip: str = SIGLIP_MODEL) -> None:
        from transformers import SiglipImageProcessor, SiglipVisionModel

        self._processor: SiglipImageProcessor = SiglipImageProcessor.from_pretrained(siglip)
        vision, loading = SiglipVisionModel.from_pretrained(
            siglip, use_safetensors=True, output_loading_info=True
        )
        if loading["missing_keys"] or loading["mismatched_keys"]:
            raise GuardrailError(
                f"The SigLIP '{siglip}' lacks {len(loading['missing_keys'])} weights of its vision "
                "part. Fetch it again."
            )
        device = default_device()
        self._vision: SiglipVisionModel = vision.to(device).eval()
        self._classifier = read_classifier(checkpoint, vision.config.hidden_size).to(device)

    def __call__(self, frames_THWC: np.ndarray) -> np.ndarray:
        """Return probabilities, float32 ``(T, 7)``."""
        starts = range(0, len(frames_THWC), BATCH_SIZE)
        return np.concatenate([self._classify(frames_THWC[n : n + BATCH_SIZE]) for n in starts])

    def _classify(self, frames_THWC: np.ndarray) -> np.ndarray:
        import torch

        pixels_BCHW = self._processor(
            list(frames_THWC), return_tensors="pt", input_data_format="channels_last"
        )["pixel_values"]
        with torch.inference_mode():
            features_BD = self._vision(pixels_BCHW.to(self._vision.device)).pooler_output
            scaled_BD = features_BD / features_BD.norm(dim=-1, keepdim=True)
            probabilities: np.ndarray = self._classifier(scaled_BD).softmax(-1).cpu().numpy()
        return probabilities


class SiglipGuard:
    """Refuses videos with at least one frame whose likeliest class is not the safe one.

    Args:
        classifier: the frames' class probabilities; by default from ``checkpoint``, which is loaded
            with the first video.
        checkpoint: the classifier's file.
        siglip: folder or hub name of the SigLIP; by default the reference's.
    """

    name = "siglip"
    kind: GuardKind = "video"
    frames_per_s = FRAMES_PER_S

    def __init__(
        self,
        classifier: SiglipClassifier | None = None,
        *,
        checkpoint: str | None = None,
        siglip: str | None = None,
    ) -> None:
        self._checkpoint = checkpoint
        self._siglip = siglip or SIGLIP_MODEL
        self._classifier = classifier
        self._loading = threading.Lock()

    def check(self, x: str | np.ndarray) -> Verdict:
        """Judge the frames of a video.

        Raises:
            NemoCosmosError: a model is not named or is another one (the policy counts it as a
                refusal).
        """
        problem = video_problem(x)
        if problem is not None or not isinstance(x, np.ndarray):
            return Verdict(False, self.name, INVALID, problem or "the video is text")
        with self._loading:
            classifier = self._classifier = self._classifier or self._load()
        classes_TC = classifier(x)
        if classes_TC.shape != (len(x), len(CLASSES)) or not np.isfinite(classes_TC).all():
            reason = "the classifier gave NaN, infinite or missing values"
            return Verdict(False, self.name, FAILURE, reason)
        for frame in np.argsort(classes_TC[:, 0]):  # the least safe first
            likeliest = int(classes_TC[frame].argmax())
            if CLASSES[likeliest] != SAFE:
                reason = f"probability {classes_TC[frame, likeliest]:.2f} in one of {len(x)} frames"
                return Verdict(False, self.name, CLASSES[likeliest], reason)
        return Verdict(True, self.name, SAFE, f"all of {len(x)} frames are most likely safe")

    def _load(self) -> SiglipClassifier:
        if not self._checkpoint:
            raise GuardrailError(
                "The guard 'siglip' needs the path of the reference's safety_filter.pt. Set "
                f"{where_to_set('video_safety')}, or do not enable the guard."
            )
        return SiglipClassifier(Path(self._checkpoint), self._siglip)
