"""A user's own chain of functions with VJPs as a trainer."""
