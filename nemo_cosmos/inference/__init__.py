"""Pipelines from a prompt, frames or controls to a guarded video."""
