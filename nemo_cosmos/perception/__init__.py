"""Networks with given weights that guards, curation, metrics and losses share."""

#: Name of the image network that a package carries.
EMBEDDED = "efficientnet-lite0"
