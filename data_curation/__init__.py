"""From raw video to training shards."""
