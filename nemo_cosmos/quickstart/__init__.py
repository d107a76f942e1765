"""The whole road at nano size, with a report."""
