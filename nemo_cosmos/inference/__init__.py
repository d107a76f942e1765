"""Pipelines from a prompt, frames or controls to a guarded video."""

from nemo_cosmos.inference.options import GenerationOptions
from nemo_cosmos.inference.pipeline import WorldPipeline
from nemo_cosmos.inference.result import Result

__all__ = ["GenerationOptions", "Result", "WorldPipeline"]
