"""Where the work on sources runs; one file each."""

from data_curation.executors.base import Executor
from data_curation.executors.inline import InlineExecutor

__all__ = ["Executor", "InlineExecutor"]
