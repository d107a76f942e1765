"""Training of a few added weights instead of all: low-rank adapters, and controls beside them."""
