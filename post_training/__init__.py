"""Controls: camera, robotics, driving and your own."""
