"""Guards of generated videos."""
