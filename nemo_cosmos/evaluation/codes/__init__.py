"""How a discrete tokenizer uses its codebook."""
