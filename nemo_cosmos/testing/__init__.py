"""The test kit: pools of processes. Only tests import it."""
