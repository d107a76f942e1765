"""Metrics of a generated video and the true one."""
