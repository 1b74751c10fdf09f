"""Loss and gradients in preallocated buffers, tall data in blocks that stay in cache: what `fit` runs where it can.

A second implementation besides the chain, of what most runs are made of: dense layers, relu or tanh, a squared error. In one
pass over each block of rows the residual, its part of the loss and its part of the gradients are computed; the parts are
then summed pairwise. Any block size gives the same up to rounding. What it cannot do the chain does.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from lockstep.backends.numpy_vjp.clips import ClipTransform
from lockstep.backends.numpy_vjp.kernels import KERNELS, LOSSES, Arena, Call, Kernel
from lockstep.backends.numpy_vjp.optimizers import OptimizerState, Transform
from lockstep.backends.problem import UNAVERAGED, Array, Arrays, Batches, Problem, walk

BLOCK = 1 << 21
"""Bytes that a block's arrays take together: they stay in the cache that the cores share.

Blocks for a core's own cache (2¹⁸) were measured to take 1.2 to 2 times as long: each is half a dozen calls, and BLAS divides only
larger products among threads. Larger ones than this gain little more, and lose digits: a block's own sums are BLAS', which at 2²²
bytes were off by 1.4e-6 of a float32 gradient over a million rows, at 2²¹ by 8e-7.
"""


def can_fuse(problem: Problem) -> bool:
    """Whether there are kernels for all of it."""
    return (
        all(layer.op in KERNELS for layer in walk(problem.layers))
        and problem.x.ndim == 2
        and problem.loss.name in LOSSES
        and not problem.penalties
        and problem.accumulation == 1
        and problem.average == UNAVERAGED
    )


class Fused:
    """Loss and gradients of one batch shape.

    Attributes:
        x, y: the batch; where it is gathered anew for each step, the buffers to write it to.
        parameters: buffers that the calls read; an update in place takes effect in the next `run`.
    """

    def __init__(
        self, problem: Problem, x: Array, y: Array, parameters: Mapping[str, Array], block: int = BLOCK
    ) -> None:
        self.x, self.y, self.parameters = x, y, parameters
        rows = rows_in(block, problem, x)
        starts = range(0, len(x), rows)
        shapes = {name: value.shape for name, value in parameters.items()}
        self._parts = {name: np.zeros((len(starts), *shape), x.dtype) for name, shape in shapes.items()}
        self._losses = np.zeros(len(starts), x.dtype)
        self._calls: list[Call] = []
        self._arena = Arena()
        for number, start in enumerate(starts):
            part = slice(start, start + rows)
            self._compile(problem, x[part], y[part], number)
        reduction = problem.loss.args["reduction"]
        factor = LOSSES[problem.loss.name] / (y.size if reduction == "mean" else 1)
        self._factor, self._slope = x.dtype.type(factor), x.dtype.type(2 * factor)
        self._only = {name: parts[0] for name, parts in self._parts.items()} if len(starts) == 1 else {}

    def run(self) -> tuple[np.floating[Any], dict[str, Array]]:
        """The loss, and the gradients in arrays of their own: an optimizer may keep them."""
        for call in self._calls:
            call()
        slope, sums = self._slope, self._only or {name: _sum(parts) for name, parts in self._parts.items()}
        return self._factor * _sum(self._losses), {name: slope * total for name, total in sums.items()}

    def _compile(self, problem: Problem, x: Array, y: Array, number: int) -> None:
        """The calls of one block."""
        self._arena.begin()
        kernels: list[Kernel] = []
        value = x
        for layer in problem.layers:
            for build, leaf in KERNELS[layer.op]:
                name = layer.leaf(leaf) if leaf else ""
                grad = self._parts[name][number] if leaf else None
                kernels.append(build(self._arena, value, self.parameters.get(name), grad))
                value = kernels[-1].value
        self._calls += [call for kernel in kernels for call in kernel.forward]
        # The error takes the prediction's place; the factor 2 of its derivative is left to the end.
        flat = value.reshape(-1)
        self._calls += [
            partial(np.subtract, value, y, value),
            partial(np.dot, flat, flat, self._losses[number : number + 1].reshape(())),
        ]
        self._calls += _backward(self._arena, x, kernels)


def _backward(arena: Arena, x: Array, kernels: list[Kernel]) -> list[Call]:
    """The backward calls, from the last kernel to the first; a cotangent takes a buffer of its input's shape."""
    calls: list[Call] = []
    u = kernels[-1].value
    inputs = [x, *(kernel.value for kernel in kernels[:-1])]
    for position, kernel in reversed(list(enumerate(kernels))):
        wanted = position > 0 and not kernel.passes
        to = arena.like(inputs[position].shape, x.dtype) if wanted else None
        calls += kernel.backward(u, to)
        u = u if to is None else to
    return calls


def rows_in(block: int, problem: Problem, x: Array) -> int:
    """How many rows a block has, so that its inputs, outputs and cotangents take about that many bytes."""
    numbers = x.shape[1] + sum(4 * math.prod(layer.output_shape) for layer in problem.layers)
    return max(1, min(len(x), block // (numbers * x.itemsize)))


def _sum(parts: Array) -> Array:
    """The sum over the blocks, pairwise: so NumPy sums along a contiguous axis."""
    if len(parts) == 1:
        only: Array = parts[0]
        return only
    flat = np.ascontiguousarray(parts.reshape(len(parts), -1).T)
    total: Array = np.add.reduce(flat, axis=1).reshape(parts.shape[1:])
    return total


class FusedRun:
    """A whole run over a `Fused` for each batch shape that it has.

    Args:
        problem: one that `can_fuse`.
        parameters: before the first step; they are copied.
        optimizer, clip: as of the chain's own steps.
    """

    def __init__(
        self, problem: Problem, parameters: Arrays, optimizer: Transform, clip: ClipTransform
    ) -> None:
        self._problem, self._optimizer, self._clip = problem, optimizer, clip
        self._fused: dict[int | None, Fused] = {}
        self._parameters = {name: np.array(value) for name, value in parameters.items()}

    def read(self) -> dict[str, Array]:
        """A copy of the parameters as they are now."""
        return {name: value.copy() for name, value in self._parameters.items()}

    def train(
        self, batches: Batches, state: OptimizerState, done: int, record: bool
    ) -> tuple[Array, dict[str, Array] | None, OptimizerState]:
        """All steps.

        Args:
            batches: of the whole run.
            state: the optimizer's.
            done: how many steps were taken before.
            record: whether to keep the parameters before the first epoch and after each.

        Returns:
            The losses, (steps,); what was recorded, or None; the optimizer's state.
        """
        losses = np.empty(len(batches), batches.x.dtype)
        shape = (batches.epochs + 1,)
        recorded = {
            name: np.empty(shape + value.shape, value.dtype)
            for name, value in self._parameters.items()
            if record
        }
        self._keep(recorded, 0)
        index = 0
        for epoch in range(batches.epochs):
            for fused in self._dealt(batches, epoch):
                losses[index], grads = fused.run()
                index += 1
                state = self._update(grads, state, done + index)
            self._keep(recorded, epoch + 1)
        return losses, recorded if record else None, state

    def _update(self, grads: Arrays, state: OptimizerState, step: int) -> OptimizerState:
        updates, state = self._optimizer.update(self._clip(grads), state, self._parameters, step)
        for name, update in updates.items():
            self._parameters[name] += update
        return state

    def _dealt(self, batches: Batches, epoch: int) -> Iterator[Fused]:
        """Each batch of an epoch, in its buffers."""
        size = batches.batching.size
        if size is None:
            yield self._of_rows(batches, None)
            return
        order = batches.order(epoch)
        for start in range(0, len(order), size):
            rows = order[start : start + size]
            fused = self._of_rows(batches, len(rows))
            np.take(batches.x, rows, axis=0, out=fused.x)
            np.take(batches.y, rows, axis=0, out=fused.y)
            yield fused

    def _of_rows(self, batches: Batches, rows: int | None) -> Fused:
        """The one for batches of so many rows; None: all of the data, where they lie."""
        if rows not in self._fused:
            x, y = (one if rows is None else np.empty_like(one[:rows]) for one in (batches.x, batches.y))
            self._fused[rows] = Fused(self._problem, x, y, self._parameters)
        return self._fused[rows]

    def _keep(self, recorded: Mapping[str, Array], epoch: int) -> None:
        for name, values in recorded.items():
            values[epoch] = self._parameters[name]
