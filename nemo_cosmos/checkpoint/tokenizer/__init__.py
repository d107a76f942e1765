"""Tokenizers in other formats."""
