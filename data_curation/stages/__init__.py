"""One file a stage: a plain function and a thin stage around it."""
