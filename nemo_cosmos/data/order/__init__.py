"""The order of samples as a pure function; packs; resuming."""
