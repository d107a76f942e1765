"""Where one shot of a video ends and the next begins: plain functions, one file a method."""
