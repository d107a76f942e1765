"""The diffusion decoder: a diffusion model that turns a discrete tokenizer's codes into latents."""
