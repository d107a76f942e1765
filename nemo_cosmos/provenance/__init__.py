"""Records and marks of synthetic videos: provenance, manifests, hashes, the watermark."""
