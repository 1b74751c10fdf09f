"""The JAX backend: Haiku modules, Optax transforms, jit and lax.scan."""

from backends.jax_haiku.adopted import adopt

__all__ = ["adopt"]
