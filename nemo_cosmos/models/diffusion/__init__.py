"""The diffusion world model."""
