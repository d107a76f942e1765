"""Attention and its context-parallel forms."""
