"""What watches a training run, one file each."""

from nemo_cosmos.training.callbacks.curves import LossCurves
from nemo_cosmos.training.callbacks.memory import Memory
from nemo_cosmos.training.callbacks.progress import Progress
from nemo_cosmos.training.callbacks.samples import SampleVideos
from nemo_cosmos.training.callbacks.throughput import Throughput

__all__ = ["LossCurves", "Memory", "Progress", "SampleVideos", "Throughput"]
