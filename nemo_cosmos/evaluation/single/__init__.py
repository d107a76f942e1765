"""Metrics of one video alone, without a truth."""
