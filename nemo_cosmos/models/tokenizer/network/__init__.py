"""The autoencoder: encoder, quantiser and decoder of images and causal video."""
