"""One file a metric, and the reports."""
