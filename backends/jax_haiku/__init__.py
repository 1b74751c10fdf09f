"""The JAX backend: Haiku modules, Optax transforms, jit and lax.scan."""
