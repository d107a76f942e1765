"""Find faces in frames, follow them through a video, and cover them."""
