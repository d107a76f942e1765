"""When a run saves, what its checkpoints hold, and which one it resumes from."""
