"""Shards, loaders, buckets and the latent cache."""
