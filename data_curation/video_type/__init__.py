"""What kind of video a clip is, and where it was taken, by a taxonomy that the user may change."""
