"""Curated clips and captions through a tokenizer and a text encoder, once, for training."""
