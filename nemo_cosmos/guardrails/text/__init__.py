"""Guards of prompts."""
