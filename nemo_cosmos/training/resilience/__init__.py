"""Runs that look after themselves: hangs, bad steps, slow ranks, lost machines."""
