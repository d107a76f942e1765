"""What commands share: their options and ``--check``."""
