"""Decode, encode, probe and resize video."""
