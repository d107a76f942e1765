"""What is in a video file before a frame of it is decoded for use: its frames, times and fields."""
