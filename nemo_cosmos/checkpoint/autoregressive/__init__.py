"""Autoregressive world models in other formats: keys, files of several ranks, transformers'."""
