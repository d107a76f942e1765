"""Robot episodes, action control and its evaluation."""
