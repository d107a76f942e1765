"""Scores that survive a stop, and several processes that share the videos of one evaluation."""

from nemo_cosmos.evaluation.sharing.crew import Crew, ShareDone
from nemo_cosmos.evaluation.sharing.journal import ScoreJournal
from nemo_cosmos.evaluation.sharing.start import Call, shared

__all__ = ["Call", "Crew", "ScoreJournal", "ShareDone", "shared"]
