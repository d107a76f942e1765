"""The weights of a training run: where they come from, what is trained, what is exported."""
