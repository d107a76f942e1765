"""Measure what the numbers of a robot data set are, and find the classic faults in them."""

from post_training.robotics.inspection.faults import Finding
from post_training.robotics.inspection.report import Inspection, inspect_dataset

__all__ = ["Finding", "Inspection", "inspect_dataset"]
