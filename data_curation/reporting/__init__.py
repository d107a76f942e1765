"""What a run counts and shows: progress on the terminal, metrics for machines, pages for people."""
