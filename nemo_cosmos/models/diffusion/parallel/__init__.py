"""Parallelism beside the network: context-parallel boxes, divisibility, pipelines, sampling."""
