"""A user's own torch module, loss and optimizer as a trainer."""
