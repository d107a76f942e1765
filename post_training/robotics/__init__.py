"""Robot episodes, simulated and recorded, and the action control."""
