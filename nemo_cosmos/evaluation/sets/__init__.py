"""Metrics of all generated videos and all true ones; one file each."""
