"""Driving: several synchronous cameras on a car, its path, and drawn layouts as conditions."""
