"""A user's own JAX model, loss and Optax optimizer as a trainer."""
