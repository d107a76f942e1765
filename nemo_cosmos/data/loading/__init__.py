"""Readers of samples: corpus, buckets, latents, videos."""
