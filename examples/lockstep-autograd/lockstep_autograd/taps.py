"""Taps on the layers' outputs: what follows sees another value, what comes before another cotangent.

Two functions that autograd is told the derivative of. Neither is one of mathematics: that is how a value is exchanged on
its way forward, and a cotangent on its way back.
"""

from __future__ import annotations

from autograd.extend import defvjp, primitive

from lockstep.backends.problem import Array, Arrays


@primitive
def _with_value(output: Array, other: Array) -> Array:
    return other


@primitive
def _with_cotangent(output: Array, other: Array) -> Array:
    return output


# The cotangent of the other value goes to the one that it stands for; the other is a constant.
defvjp(_with_value, lambda ans, output, other: lambda g: g, argnums=(0,))
defvjp(_with_cotangent, lambda ans, output, other: lambda g: other, argnums=(0,))


def tapped(layer: str, output: Array, probe: Array, inject: Arrays) -> Array:
    """What the next layer gets.

    Args:
        layer: its name.
        output: what it computed.
        probe: zeros, whose derivative is the cotangent of the output as what follows computes it.
        inject: ``forward/<layer>`` and ``cotangent/<layer>``, to go on with instead.
    """
    if (cotangent := inject.get(f"cotangent/{layer}")) is not None:
        output = _with_cotangent(output, cotangent)
    value = output + probe
    if (other := inject.get(f"forward/{layer}")) is not None:
        value = _with_value(value, other)
    return value
