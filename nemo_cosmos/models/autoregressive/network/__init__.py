"""The autoregressive transformer as a network: tokens in, scores of the next token out."""
