"""LeRobot data sets: read, converted to our episodes, and written."""

from post_training.robotics.lerobot.convert import convert_lerobot
from post_training.robotics.lerobot.reading import LeRobotData
from post_training.robotics.lerobot.writing import write_lerobot

__all__ = ["LeRobotData", "convert_lerobot", "write_lerobot"]
