"""What every model family needs of Megatron-Core."""
