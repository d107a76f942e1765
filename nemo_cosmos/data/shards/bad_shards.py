"""Shards that cannot be read: counted and logged up to a limit, then an error; and samples."""

from __future__ import annotations

import logging
from collections import Counter

from nemo_cosmos.errors import SampleError

logger = logging.getLogger(__name__)


class BadShards:
    """The bad shards and samples that one process has met.

    Args:
        limit: number of different shards that may be bad.
    """

    def __init__(self, limit: int = 0) -> None:
        self.limit = limit
        self.reasons: dict[str, str] = {}
        #: How often each sample was skipped whose numbers no model should see, by its reason.
        self.skipped: Counter[str] = Counter()

    def skip(self, reason: str) -> None:
        """Count a sample that was skipped; it is logged the first time."""
        self.skipped[reason] += 1
        if self.skipped[reason] == 1:
            logger.warning("Skipped sample %d: %s", len(self.skipped), reason)

    def add(self, shard: str, reason: str) -> None:
        """Count a shard, once, whatever goes wrong with it later.

        Raises:
            SampleError: there are more than the limit; the message names the shard.
        """
        if shard in self.reasons:
            return
        self.reasons[shard] = reason
        count = len(self.reasons)
        if count > self.limit:
            raise SampleError(
                f"The shard '{shard}' cannot be read: {reason} That makes {count} bad "
                f"{'shard' if count == 1 else 'shards'}, and max_bad_shards is {self.limit}. "
                f"Repair it, or skip it with data.max_bad_shards={count}."
            )
        logger.warning("Skipped bad shard %d of at most %d: %s", count, self.limit, reason)
