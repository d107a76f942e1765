"""World folders: what training exports and inference loads."""
