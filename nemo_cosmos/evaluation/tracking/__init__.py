"""Where things are in a generated video, against where they are in the true one."""
