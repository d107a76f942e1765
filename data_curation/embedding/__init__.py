"""From frames to vectors: what clips are compared, searched and sorted by."""

#: Name of the network that a package carries.
EMBEDDED = "efficientnet-lite0"
