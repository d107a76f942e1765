"""A world model on trial: its videos of recorded episodes, scored against what happened."""
