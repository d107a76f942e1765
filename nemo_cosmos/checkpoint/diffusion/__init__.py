"""Diffusion world models in other formats: keys, folders, descriptions."""
