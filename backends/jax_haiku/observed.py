"""Taps on the layers' outputs: what follows sees other values, what comes before another cotangent."""

from __future__ import annotations

from collections.abc import Mapping

import jax

from lockstep.backends.jax_haiku.model import Tap


def tapping(zeros: Mapping[str, jax.Array], inject: Mapping[str, jax.Array]) -> Tap:
    """A tap for each layer in `zeros`.

    Args:
        zeros: by layer, added to its output, which leaves it as it is; the derivative with respect to them is the
            cotangent of the output.
        inject: ``forward/<layer>`` and ``cotangent/<layer>``, to go on with instead.
    """

    def tap(layer: str, output: jax.Array) -> jax.Array:
        if f"cotangent/{layer}" in inject:
            output = _with_cotangent(output, inject[f"cotangent/{layer}"])
        if layer in zeros:
            output = output + zeros[layer]
        if f"forward/{layer}" in inject:
            output = _with_value(output, inject[f"forward/{layer}"])
        return output

    return tap


@jax.custom_vjp
def _with_value(value: jax.Array, other: jax.Array) -> jax.Array:
    """Another value; the cotangent goes to the one that it stands for."""
    return other


_with_value.defvjp(lambda value, other: (other, None), lambda saved, u: (u, None))


@jax.custom_vjp
def _with_cotangent(value: jax.Array, cotangent: jax.Array) -> jax.Array:
    """The value as it is; whatever cotangent comes back, the other is passed on."""
    return value


_with_cotangent.defvjp(lambda value, cotangent: (value, cotangent), lambda saved, u: (saved, None))
