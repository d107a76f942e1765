"""The diffusion process: EDM, conditioning, training step, samplers."""
