"""WebDataset shards: tar files, their index, their folder layout."""
