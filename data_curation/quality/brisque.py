"""BRISQUE, a no-reference score of natural pictures, with the model that a package carries.

Mittal, Moorthy and Bovik, "No-Reference Image Quality Assessment in the Spatial Domain" (IEEE TIP
2012): 18 features of the normalised luma at two scales (asymmetric generalised Gaussians fitted to
it and to products of neighbours) into a support vector regression. About 0 is a clean picture, 100
a bad one.
"""

from __future__ import annotations

import pickletools
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import special

from nemo_cosmos.aliases import Array
from nemo_cosmos.assets import asset_path
from nemo_cosmos.errors import AssetError

NUM_FEATURES = 36
_KERNEL_PX, _SIGMA = 7, 7 / 6
_LUMA_709 = np.array([0.2125, 0.7154, 0.0721])
# Shapes of the generalised Gaussian that are tried; its moments' ratio grows with the shape.
_SHAPES = np.arange(0.2, 12, 0.001)


@dataclass(frozen=True)
class SupportVectors:
    """The regression and the ranges that features are scaled by."""

    vectors_NF: NDArray[np.float64]
    weights_N: NDArray[np.float64]
    gamma: float
    rho: float
    least_F: NDArray[np.float64]
    most_F: NDArray[np.float64]

    def predict(self, features_F: NDArray[np.float64]) -> float:
        """Score of one picture."""
        scaled_F = -1 + 2 * (features_F - self.least_F) / (self.most_F - self.least_F)
        distance2_N = np.square(self.vectors_NF - scaled_F).sum(axis=1)
        return float(self.weights_N @ np.exp(-self.gamma * distance2_N) - self.rho)


def brisque(frame_HWC: NDArray[np.uint8]) -> float:
    """Score of an RGB frame.

    Raises:
        AssetError: the model is unavailable.
    """
    return load_model().predict(features(frame_HWC))


def features(frame_HWC: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The 36 features of an RGB frame."""
    luma_HW = (frame_HWC.astype(np.float64) / 255) @ _LUMA_709
    half_HW = cv2.resize(luma_HW, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_CUBIC)
    return np.concatenate([_features_of(luma_HW), _features_of(half_HW)])


def _features_of(luma_HW: NDArray[np.float64]) -> NDArray[np.float64]:
    kernel = cv2.getGaussianKernel(_KERNEL_PX, _SIGMA, cv2.CV_64F)

    def smooth(values: NDArray[np.float64]) -> NDArray[np.float64]:
        result = cv2.sepFilter2D(values, -1, kernel, kernel, borderType=cv2.BORDER_CONSTANT)
        return np.asarray(result)

    mean_HW = smooth(luma_HW)
    deviation_HW = np.sqrt(np.abs(smooth(luma_HW**2) - mean_HW**2))
    normal_HW = (luma_HW - mean_HW) / (deviation_HW + 1 / 255)
    shape, _, left2, right2 = _fit(normal_HW)
    result = [shape, (left2 + right2) / 2]
    for product in (
        normal_HW[:, :-1] * normal_HW[:, 1:],
        normal_HW[:-1] * normal_HW[1:],
        normal_HW[:-1, :-1] * normal_HW[1:, 1:],
        normal_HW[1:, :-1] * normal_HW[:-1, 1:],
    ):
        result += _fit(product)
    return np.array(result)


def _fit(values: NDArray[np.float64]) -> tuple[float, float, float, float]:
    """Asymmetric generalised Gaussian by moments: shape, mean, left and right variance."""
    left = values[values < 0]
    right = values[values >= 0]
    left2 = float(np.mean(left**2)) if left.size else 1e-12
    right2 = float(np.mean(right**2)) if right.size else 1e-12
    gamma = np.sqrt(left2 / max(right2, 1e-12))
    ratio = np.mean(np.abs(values)) ** 2 / max(float(np.mean(values**2)), 1e-12)
    target = ratio * (gamma**3 + 1) * (gamma + 1) / (gamma**2 + 1) ** 2
    shape = float(np.interp(target, _moment_ratios(), _SHAPES))
    spread = np.sqrt(special.gamma(1 / shape) / special.gamma(3 / shape))
    mean = (np.sqrt(right2) - np.sqrt(left2)) * spread
    mean *= special.gamma(2 / shape) / special.gamma(1 / shape)
    return shape, float(mean), left2, right2


@cache
def _moment_ratios() -> Array:
    first, second, third = (special.gammaln(order / _SHAPES) for order in (1, 2, 3))
    return np.exp(2 * second - first - third)


@cache
def load_model() -> SupportVectors:
    """The regression of the package ``brisque``: text, and numbers picked out of a pickle.

    Raises:
        AssetError: it is unavailable, or is not the expected one.
    """
    least_F, most_F = _ranges(asset_path("brisque_ranges"))
    lines = asset_path("brisque_svm").read_text(encoding="utf-8").splitlines()
    start = lines.index("SV")
    head = dict(line.split(maxsplit=1) for line in lines[:start])
    rows = [line.split() for line in lines[start + 1 :] if line.strip()]
    vectors_NF = np.zeros((len(rows), NUM_FEATURES))
    for row, items in enumerate(rows):
        for item in items[1:]:
            column, _, value = item.partition(":")
            vectors_NF[row, int(column) - 1] = float(value)
    weights_N = np.array([float(items[0]) for items in rows])
    gamma, rho = float(head["gamma"]), float(head["rho"])
    return SupportVectors(vectors_NF, weights_N, gamma, rho, least_F, most_F)


def _ranges(path: Path) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The numbers of a pickle in their order; nothing of it is run."""
    operations = pickletools.genops(path.read_bytes())
    values = [value for code, value, _ in operations if code.name == "BINFLOAT"]
    if len(values) != 2 * NUM_FEATURES:
        raise AssetError(
            f"'{path}' holds {len(values)} numbers, expected {2 * NUM_FEATURES}. Delete it to have "
            "it fetched again."
        )
    return np.array(values[:NUM_FEATURES]), np.array(values[NUM_FEATURES:])
