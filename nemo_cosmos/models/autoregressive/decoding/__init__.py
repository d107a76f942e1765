"""Drawing tokens: noise, sampling, and the ways to decode many at once."""
