"""Metrics for which a model is asked about a video; one file each."""
