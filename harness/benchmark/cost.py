"""The least that a problem needs: bytes moved and products computed, whoever trains it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from lockstep.backends.ops import FUNCTIONS
from lockstep.backends.problem import UNAVERAGED, Placed, Problem
from lockstep.harness.benchmark.limits import Limits


@dataclass(frozen=True)
class Need:
    """The least that a whole run needs.

    Attributes:
        data_bytes: x and y in the problem's dtype.
        bytes: read and written at least: x and y once an epoch, since one pass over the rows can give the loss and
            the gradient, activations staying in cache; parameters and what the optimizer stores once an update, both ways.
        flops: of the products with weights: forward, for the weight's gradient, and for the layer's input where that
            depends on a parameter. Everything elementwise is left out; it is bound by the bytes.
    """

    data_bytes: int
    bytes: int
    flops: int

    def seconds(self, limits: Limits, dtype: str) -> float | None:
        """A lower bound of the seconds on this machine; None where its rates were not measured."""
        copy, matmul = limits.copy.get(self.data_bytes), limits.matmul.get(dtype)
        if copy is None or matmul is None:
            return None
        return max(self.bytes / copy, self.flops / matmul)


def need_of(problem: Problem) -> Need:
    """The need of a problem in its dtype."""
    item = np.dtype(problem.dtype).itemsize
    rows, used = len(problem.x), _rows_an_epoch(problem)
    data = (problem.x.size + problem.y.size) * item
    updates = problem.steps // problem.accumulation
    moved = problem.epochs * data * used // rows + updates * 2 * numbers_updated(problem) * item
    return Need(data, moved, problem.epochs * used * products(problem))


def numbers_updated(problem: Problem) -> int:
    """Numbers that an update reads and writes: parameters, the optimizer's slots, an average."""
    shapes = problem.parameter_shapes
    count = sum(math.prod(shape) for shape in shapes.values())
    slots = [slot.shape(shape) for slot in problem.optimizer.state.values() for shape in shapes.values()]
    averaged = 0 if problem.average == UNAVERAGED else count
    return count + averaged + sum(math.prod(shape) for shape in slots if shape is not None)


def products(problem: Problem) -> int:
    """Floating-point operations of one example's products with weights, forward and backward."""
    total, _ = _chain(problem.layers, trained=False)
    return total


def _chain(layers: Iterable[Placed], trained: bool) -> tuple[int, bool]:
    """The operations, and whether the output depends on a parameter; `trained`: whether the input does."""
    total = 0
    for layer in layers:
        branches = [_chain(branch, trained) for branch in layer.branches]
        total += _products(layer) * (3 if trained else 2) + sum(cost for cost, _ in branches)
        trained = trained or bool(layer.parameters) or any(after for _, after in branches)
    return total, trained


def _products(layer: Placed) -> int:
    """Forward, one example: each place of the output multiplies the whole weight; a table of ids multiplies nothing."""
    if FUNCTIONS[layer.op].ids is not None:
        return 0
    weights = sum(math.prod(shape) for shape in layer.parameters.values() if len(shape) > 1)
    return 2 * weights * math.prod(layer.output_shape[:-1])


def _rows_an_epoch(problem: Problem) -> int:
    rows, batching = len(problem.x), problem.batching
    return rows if batching.keep_last else batching.steps(rows) * (batching.size or rows)
