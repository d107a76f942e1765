"""From frames to vectors: what clips are compared, searched and sorted by."""
