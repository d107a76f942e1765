"""The only place that knows CPU from CUDA."""
