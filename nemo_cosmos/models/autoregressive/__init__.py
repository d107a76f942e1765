"""The autoregressive family: a video's tokens, predicted one after the other."""
