"""Shards of videos into shards of latents or codes."""
