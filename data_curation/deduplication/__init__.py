"""Which clips show the same, found exactly, by their look and by their meaning."""
