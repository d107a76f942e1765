"""Patches of other libraries; nothing else in the house patches them."""
