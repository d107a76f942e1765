"""``nemo-cosmos evaluate``: score videos, compare scores, and compute recorded ones again.

``command`` reads the command line; each of the other files is one thing that it can do.
"""

from nemo_cosmos.cli.training.evaluate.command import command

__all__ = ["command"]
