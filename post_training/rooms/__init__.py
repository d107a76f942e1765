"""Painted rooms that a moving camera films, with its exact path and the depth of the first frame.

Nothing in a room moves but the camera, so that what it was told is all there is to obey. The
pictures are cast ray by ray, and are the same on every machine.
"""

from post_training.rooms.generate import ROOMS, simulate_rooms
from post_training.rooms.studio import RoomSettings

__all__ = ["ROOMS", "RoomSettings", "simulate_rooms"]
