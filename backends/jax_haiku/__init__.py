"""The JAX backend: Haiku modules, Optax transforms, jit and lax.scan."""

from lockstep.backends.jax_haiku.adoption.trainer import adopt

__all__ = ["adopt"]
