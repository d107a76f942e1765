"""The commands that prepare data: simulate, convert, curate, transcode, tokenize, dataset."""
