"""The commands that make and judge videos: generate, predict, extend, guard, audit, quickstart."""
