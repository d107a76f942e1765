"""Signals that several tests take apart."""

from __future__ import annotations

import numpy as np


def known_objects(height=40, width=60):
    """Two objects: one in the middle, one at the right border."""
    mask = np.zeros((2, height, width), np.uint8)
    mask[:, 15:25, 20:30] = 1
    mask[:, 10:20, 50:58] = 2
    projection = np.array([[1 / 3, 0, 0, 0.5], [0, 0, -1 / 2, 0.8], [0, 0.2, 0, 1.0]])
    return {
        "time_s": np.arange(2) / 10,
        "position_m": np.zeros((2, 2, 3)),
        "velocity_m_s": np.zeros((2, 2, 3)),
        "rotation_rad": np.zeros((2, 2)),
        "energy_j": np.zeros((2, 2, 3)),
        "touches": np.ones((2, 2)),
        "mask": mask,
        "visible_fraction": np.ones((2, 2)),
        "is_whole": np.ones((2, 2), np.uint8),
        "other_position_m": np.zeros((2, 0, 3)),
        "mass_kg": np.ones(2),
        "height_m": np.ones(2),
        "support_m": np.array([[-1, 0], [1, 0]]),
        "projection": projection,
    }
