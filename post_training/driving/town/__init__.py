"""A town to drive through, drawn exactly: streets, houses, parked cars and trees.

:func:`simulate_drives` films episodes for any rig of cameras, with the car's path, and with the
layout that a map would draw into each picture. It needs nothing but NumPy and OpenCV.
"""

from post_training.driving.town.generate import DriveSettings, simulate_drives

__all__ = ["DriveSettings", "simulate_drives"]
