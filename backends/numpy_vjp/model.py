"""The model's layers as a chain of functions, in training or in evaluation, with the names of their parameters."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from lockstep.backends.numpy_vjp.buffers import AVERAGES
from lockstep.backends.numpy_vjp.chain import compose, evaluate_chain
from lockstep.backends.numpy_vjp.function import Function, Param
from lockstep.backends.numpy_vjp.tables import EVALUATED, FUNCTIONS, JOINS, Names
from lockstep.backends.problem import Array, Arrays, Placed, walk


class Chain(NamedTuple):
    """Functions and the names of their parameters, in order.

    Attributes:
        funcs: f_1 … f_K.
        names: canonical names, nested as the functions' parameters are.
        ends: layer -> how many functions there are up to its end.
    """

    funcs: list[Function]
    names: list[Names]
    ends: dict[str, int]


def chain_of(layers: Sequence[Placed], training: bool) -> Chain:
    """The chain of `layers`."""
    chain = Chain([], [], {})
    for layer in layers:
        for f, names in _links(layer, training):
            chain.funcs.append(f)
            chain.names.append(names)
        chain.ends[layer.name] = len(chain.funcs)
    return chain


def _links(layer: Placed, training: bool) -> Iterator[tuple[Function, Names]]:
    if layer.branches:
        chains = [chain_of(branch, training) for branch in layer.branches]
        joined = JOINS[layer.op]([compose(*chain.funcs) for chain in chains])
        yield joined, tuple(tuple(chain.names) for chain in chains)
        return
    table = FUNCTIONS if training or layer.op not in EVALUATED else EVALUATED
    for f, names in table[layer.op](layer.args):
        yield f, _full(layer, names)


def _full(layer: Placed, names: Names) -> Names:
    if isinstance(names, tuple):
        return tuple(_full(layer, one) for one in names)
    return layer.leaf(names) if names else None


def resolve(names: Names, values: Mapping[str, Array]) -> Param:
    """The parameter of that name, nested as the names are."""
    if isinstance(names, tuple):
        return tuple(resolve(one, values) for one in names)
    return values[names] if names else None


def named(names: Iterable[Names], grads: Iterable[Param]) -> Iterator[tuple[str, Array]]:
    """The gradients by name; constants (masks, statistics, targets) have none."""
    for name, grad in zip(names, grads, strict=True):
        if isinstance(name, tuple) and grad is not None:
            yield from named(name, grad)
        elif isinstance(name, str) and grad is not None:
            yield name, grad


def masks_of(masks: Arrays) -> dict[str, Array]:
    """A batch's masks by the name under which the chain looks for them."""
    return {f"{layer}/mask": mask for layer, mask in masks.items()}


def moved(layers: Sequence[Placed], x: Array, values: Mapping[str, Array]) -> dict[str, Any]:
    """The buffers of `layers`, and of those in their branches, after the forward pass of training at x."""
    moved_buffers: dict[str, Any] = {}
    for layer in layers:
        if layer.buffers:
            before = {key: values[layer.leaf(key)] for key in layer.buffers}
            after = AVERAGES[layer.op](layer.args).move(x, before)
            moved_buffers.update({layer.leaf(key): value for key, value in after.items()})
        for branch in layer.branches:
            moved_buffers.update(moved(branch, x, values))
        chain = chain_of([layer], training=True)
        x = evaluate_chain(x, chain.funcs, [resolve(names, values) for names in chain.names])
    return moved_buffers


def statistics(layers: Iterable[Placed], buffers: Arrays) -> dict[str, Array]:
    """What evaluation takes in place of batch statistics, by canonical name."""
    averages: dict[str, Array] = {}
    for layer in walk(layers):
        if layer.buffers:
            own = {key: buffers[layer.leaf(key)] for key in layer.buffers}
            read = AVERAGES[layer.op](layer.args).read(own)
            averages.update({layer.leaf(key): value for key, value in read.items()})
    return averages
