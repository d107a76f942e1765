"""What a machine's GPUs, driver and packages can do: read, judged, and required before training."""
