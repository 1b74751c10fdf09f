"""One forward and backward pass, layer by layer, in which what follows a layer may be computed from others' values."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from lockstep.backends.numpy_vjp.chain import evaluate_chain, pull_back
from lockstep.backends.numpy_vjp.function import Function, Param
from lockstep.backends.numpy_vjp.special import one
from lockstep.backends.problem import Array, Arrays


class Passes(NamedTuple):
    """What both passes computed.

    Attributes:
        outputs, cotangents: by layer, in the order of the model.
        loss: without penalties.
        grads: of the functions' parameters, in the order of the chain.
    """

    outputs: dict[str, Array]
    loss: Array
    cotangents: dict[str, Array]
    grads: list[Param]


def passes(
    x: Array, funcs: Sequence[Function], params: Sequence[Param], ends: dict[str, int], inject: Arrays
) -> Passes:
    """Forward and backward through a chain whose layers end after `ends` functions, the loss last.

    Args:
        x: the input of the first function.
        funcs, params: as of `evaluate_chain`.
        ends: layer -> how many functions there are up to its end.
        inject: ``forward/<layer>`` and ``cotangent/<layer>``, which what follows is computed from instead.
    """
    bounds = [slice(*pair) for pair in pairwise([0, *ends.values(), len(funcs)])]
    outputs, values = {}, []
    for layer, part in zip([*ends, None], bounds, strict=True):
        values.append(evaluate_chain(x, funcs[part], params[part], return_all=True))
        x = values[-1][-1]
        if layer is not None:
            outputs[layer] = x
            x = inject.get(f"forward/{layer}", x)
    u, cotangents = one(x), {}
    grads: list[Param] = []
    for layer, part, within in zip([None, *reversed(ends)], reversed(bounds), reversed(values), strict=True):
        if layer is not None:
            cotangents[layer] = u
            u = inject.get(f"cotangent/{layer}", u)
        back, pulled = pull_back(within, funcs[part], params[part], u)
        u, grads = back[0], pulled + grads
    return Passes(outputs, values[-1][-1], dict(reversed(cotangents.items())), grads)
