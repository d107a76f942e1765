"""Controls and the preparation of their data sets; robotics so far."""
