"""Libraries that decode frames, each in one file with the same two functions."""
