"""The first minutes on a cluster: what it is, whether it computes right, and what is slow."""
