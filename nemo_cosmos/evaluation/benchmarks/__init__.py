"""Public benchmarks of tokenizers: how their videos are prepared, and what others published."""
