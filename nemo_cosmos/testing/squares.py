"""Videos of a square that moves along a given path, for tests of what follows things."""

from __future__ import annotations

import numpy as np

HEIGHT, WIDTH, NUM_FRAMES = 48, 64, 9


def film(points_T2: np.ndarray, half_px: float = 5, seed: int = 0) -> np.ndarray:
    """A red square with its middle at these points, before a still, uneven background."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    base = (90 + 40 * np.sin(x / 5) * np.cos(y / 7))[..., None] * np.array([0.6, 1.0, 0.8])
    frames = []
    for px, py in points_T2:
        inside = np.clip(half_px + 0.5 - np.abs(x + 0.5 - px), 0, 1)
        inside = inside * np.clip(half_px + 0.5 - np.abs(y + 0.5 - py), 0, 1)
        picture = base * (1 - inside[..., None]) + np.array([220, 40, 30]) * inside[..., None]
        frames.append(picture + rng.normal(0, 2, picture.shape))
    return np.clip(frames, 0, 255).astype(np.uint8)


def line(start: tuple[float, float], step: tuple[float, float]) -> np.ndarray:
    """Points ``(T, 2)`` on a line."""
    return np.array(start) + np.arange(NUM_FRAMES)[:, None] * np.array(step)
