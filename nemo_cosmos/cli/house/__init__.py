"""The commands that keep house: models, status, import, export, configure."""
