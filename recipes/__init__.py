"""Functions that return a whole training configuration."""
