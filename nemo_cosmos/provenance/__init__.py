"""Records and marks of synthetic videos: provenance files, manifests, hashes."""
