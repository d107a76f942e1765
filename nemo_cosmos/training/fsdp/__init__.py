"""Training with weights, gradients and optimiser state sharded over data-parallel ranks."""
