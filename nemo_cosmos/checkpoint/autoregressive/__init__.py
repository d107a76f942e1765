"""Autoregressive world models in other formats: keys."""
