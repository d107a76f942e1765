"""Curate video, train Cosmos world foundation models and generate with them.

The package is imported lazily on purpose: ``import nemo_cosmos`` costs nothing, so that commands
answer at once. Import what you need from its rooms, for example
``from nemo_cosmos.inference import WorldPipeline``.
"""

__version__ = "0.1.0"
