"""Jobs that were started: their records, what became of them, their logs and their end."""
