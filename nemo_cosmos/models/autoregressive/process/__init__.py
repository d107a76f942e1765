"""Training of the next token: which tokens are targets, and the loss."""
