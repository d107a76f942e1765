"""High dynamic range to standard range, for sources in PQ or HLG with BT.2020 primaries.

Code values become light (SMPTE ST 2084 for PQ; ITU-R BT.2100 HLG on a display of 1,000 cd/m2),
light is scaled so that the reference white of BT.2408, 203 cd/m2, is 1, the primaries become those
of BT.709, highlights are rolled off above a knee with the hue kept, and the result is encoded for a
display of gamma 2.4 (BT.1886).
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

#: FFmpeg's (ITU-T H.273) numbers of the transfer curves.
HDR_TRANSFERS = {16: "pq", 18: "hlg"}
REFERENCE_WHITE_NITS = 203.0
_HLG_PEAK_NITS, _HLG_GAMMA = 1000.0, 1.2
#: Light up to here is kept; above it approaches 1.
_KNEE = 0.6
_DISPLAY_GAMMA = 2.4
_LUMINANCE_2020 = np.array([0.2627, 0.6780, 0.0593], dtype=np.float32)
# ITU-R BT.2087.
_2020_TO_709 = np.array(
    [
        [1.660491, -0.587641, -0.072850],
        [-0.124550, 1.132900, -0.008349],
        [-0.018151, -0.100579, 1.118730],
    ],
    dtype=np.float32,
)


def tone_map(frame_HWC: NDArray[np.uint16], hdr: str) -> NDArray[np.uint8]:
    """Map one frame to 8-bit standard range.

    Args:
        frame_HWC: RGB code values over the full 16 bits, BT.2020 primaries.
        hdr: ``pq`` or ``hlg``.
    """
    light_HWC = _curve(hdr)[frame_HWC]
    if hdr == "hlg":  # the display's gamma acts on luminance
        luminance = (light_HWC @ _LUMINANCE_2020)[..., None]
        light_HWC *= _HLG_PEAK_NITS / REFERENCE_WHITE_NITS * luminance ** (_HLG_GAMMA - 1)
    light_HWC = np.maximum(light_HWC @ _2020_TO_709.T, 0)
    brightest = np.maximum(light_HWC.max(axis=-1, keepdims=True), 1e-6)
    light_HWC *= roll_off(brightest) / brightest
    encoded = np.minimum(light_HWC, 1) ** np.float32(1 / _DISPLAY_GAMMA)
    return np.rint(encoded * 255).astype(np.uint8)


def roll_off(light: NDArray[np.float32]) -> NDArray[np.float32]:
    """Identity up to the knee, then smoothly towards 1."""
    above = np.maximum(light - _KNEE, 0)
    mapped = _KNEE + (1 - _KNEE) * (1 - np.exp(-above / (1 - _KNEE)))
    return np.where(light <= _KNEE, light, mapped).astype(np.float32)


@cache
def _curve(hdr: str) -> NDArray[np.float32]:
    """Light of each of the 65,536 code values; of PQ with reference white as 1, of HLG 0 to 1."""
    code = np.arange(65536) / 65535
    if hdr == "pq":
        root = code ** (1 / 78.84375)
        light = np.maximum(root - 0.8359375, 0) / (18.8515625 - 18.6875 * root)
        nits = 10_000 * light ** (1 / 0.1593017578125)
        return (nits / REFERENCE_WHITE_NITS).astype(np.float32)
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = np.where(code <= 0.5, code**2 / 3, (np.exp((code - c) / a) + b) / 12)
    return scene.astype(np.float32)
