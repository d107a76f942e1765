"""The Cosmos video and image tokenizers."""
