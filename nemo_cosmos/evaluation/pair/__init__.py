"""Metrics of one generated video and the true one; one file each."""
