"""Text in pictures: where it is, and whether it was burnt in or belongs to the scene."""
