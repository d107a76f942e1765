"""What stands before and after generation, failing closed."""
