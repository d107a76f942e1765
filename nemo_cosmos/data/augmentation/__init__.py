"""Show clips otherwise than they were filmed, and keep what steers a model true of what is seen."""
