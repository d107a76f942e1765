"""Which clips show the same, found exactly, by their look and by their meaning."""

#: In place of a row: a clip that is no duplicate of another one.
KEPT = -1
