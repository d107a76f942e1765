"""The raw videos of an input, and the files beside each of them."""
