"""Heads that score codes further ahead: the module, their training, and their file."""
