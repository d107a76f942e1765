"""NeMo and Lightning glue."""
