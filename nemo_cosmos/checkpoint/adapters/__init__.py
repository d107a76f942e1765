"""Adapters on disk: saved alone, checked against their base, merged into it, written for others."""
