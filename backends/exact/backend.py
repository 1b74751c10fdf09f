"""The exact backend: the NumPy chain over balls, at a precision at which the whole trajectory is enclosed."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager

import flint
import numpy as np

from lockstep.backends.exact.array import BallArray, lift
from lockstep.backends.exact.ball import Ball, undecided, working
from lockstep.backends.exact.enclosure import Enclosure
from lockstep.backends.exact.precision import accuracy, scales
from lockstep.backends.exact.rounding import rounded
from lockstep.backends.exact.search import search
from lockstep.backends.numpy_vjp.arithmetic import Arithmetic
from lockstep.backends.numpy_vjp.backend import TABLES, NumPyTrainer, State
from lockstep.backends.problem import Array, Arrays, Batch, Batches, Problem, walk
from lockstep.backends.protocol import (
    LOSSES_ONLY,
    NOTHING,
    Recording,
    Scalar,
    Snapshot,
    Trace,
    Unsupported,
    unsupported,
)

STEPWISE = 256
"""Bits of a step taken by itself."""

REMEMBERED = 8
"""Arrays whose balls are kept: x and y of a full batch, and its masks."""

LIMIT = 60.0
"""Seconds that an enclosure may take."""

COST = 4e-6
"""Seconds a product of a training step, all that goes with it included; predicts what would take too long."""


class ExactBackend:
    """Ball arithmetic: losses and parameters of the true trajectory, rounded once.

    Args:
        limit: seconds that an enclosure may take.
    """

    name = "exact"

    def __init__(self, limit: float = LIMIT) -> None:
        self._limit = limit

    def supports(self, problem: Problem) -> Unsupported | None:
        seconds = expected_seconds(problem)
        if seconds > self._limit:
            return Unsupported(f"it would take about {seconds:.0f} s, the limit is {self._limit:g} s")
        return unsupported(problem, TABLES)

    def trainer(self, problem: Problem) -> ExactTrainer:
        return ExactTrainer(problem, self._limit)

    def expected_seconds(self, problem: Problem) -> float:
        return expected_seconds(problem)

    def enclosure(self, problem: Problem, recording: Recording = LOSSES_ONLY) -> Enclosure:
        """The true trajectory of a problem.

        Raises:
            NotEnclosed: the time limit was hit.
            NoValue: two numbers that are compared are equal, or one is not finite.
        """
        trainer = self.trainer(problem)
        return trainer.enclose(trainer.init(), problem.batches(), recording)

    def environment(self) -> Mapping[str, str | int | bool]:
        return {
            "version": flint.__version__,
            "flint": flint.__FLINT_VERSION__,
            "threads": 1,
            "device": "cpu",
            "reduced_precision": False,
        }


def expected_seconds(problem: Problem) -> float:
    """About what the enclosure of a problem takes: its products, forward and backward, at a few hundred bits."""
    rows = problem.batching.size or len(problem.x)
    each = sum(
        math.prod(layer.input_shape)
        + math.prod(layer.output_shape[:-1]) * sum(map(math.prod, layer.parameters.values()))
        for layer in walk(problem.layers)
    )
    return COST * problem.steps * rows * each


class ExactTrainer:
    """A problem bound to the chain over balls.

    A step by itself is taken at `STEPWISE` bits. `fit` takes the whole run again at more, until it is enclosed.
    """

    capabilities = frozenset({"fit", "stages", "inject", "optimizer_state"})

    def __init__(self, problem: Problem, limit: float = LIMIT) -> None:
        self._problem = problem
        self._limit = limit
        self._eps = float(np.finfo(problem.dtype).eps)
        with self._working():
            self._balls = self._chain()

    def given(self) -> Arrays:
        return self._balls.given()

    def init(self) -> State:
        return self._balls.init()

    def step(self, state: State, batch: Batch) -> tuple[State, Scalar]:
        with self._working():
            state, loss = self._balls.step(state, batch)
        return state, self._rounded(loss)[()]

    def gradients(self, state: State, batch: Batch) -> tuple[State, Scalar, dict[str, Array]]:
        with self._working():
            state, loss, grads = self._balls.gradients(state, batch)
        return state, self._rounded(loss)[()], grads

    def apply(self, state: State, grads: Arrays) -> State:
        with self._working():
            return self._balls.apply(state, grads)

    def observe(
        self, state: State, batch: Batch, wanted: Collection[str], inject: Arrays = NOTHING
    ) -> Arrays:
        with self._working():
            return self._floats(self._balls.observe(state, batch, wanted, inject))

    def clipped(self, state: State, grads: Arrays) -> Arrays:
        with self._working():
            return self._floats(self._balls.clipped(state, grads))

    def predict(self, state: State, x: Array) -> Array:
        with self._working():
            return self._rounded(self._balls.predict(state, x))

    def read(self, state: State) -> Snapshot:
        """The state, rounded.

        Raises:
            Undecided: so many steps were taken that a parameter's rounding is not known.
        """
        for name, scale in scales(state.parameters).items():
            if accuracy(state.parameters[name].flat, scale) < 1 - math.log2(self._eps):
                raise undecided("a rounded parameter", f"{name} after {state.step} steps at {STEPWISE} bits")
        return self._snapshot(state)

    def write(self, state: State, snapshot: Snapshot) -> State:
        return State.of(snapshot.each(_lifted))

    def read_grads(self, grads: Arrays) -> Arrays:
        return self._floats(grads)

    def write_grads(self, arrays: Arrays) -> dict[str, Array]:
        return _lifted(arrays)

    def fit(self, state: State, batches: Batches, recording: Recording) -> Trace:
        enclosure = self.enclose(state, batches, recording)
        history = {
            name: np.stack([self._rounded(past[name]) for past in enclosure.history])
            for name in (state.parameters if enclosure.history else ())
        }
        return Trace(self._rounded(enclosure.losses), self._snapshot(enclosure.final), history or None)

    def enclose(self, state: State, batches: Batches, recording: Recording = LOSSES_ONLY) -> Enclosure:
        """The trajectory from `state` on.

        Raises:
            NotEnclosed: the time limit was hit.
            NoValue: two numbers that are compared are equal, or one is not finite.
        """
        return search(self._chain, state, batches, recording, self._problem.dtype, self._limit)

    def _chain(self) -> NumPyTrainer:
        return NumPyTrainer(self._problem, Arithmetic(Ball.of, _Lifting()))

    def _working(self) -> AbstractContextManager[None]:
        return working(STEPWISE, self._eps)

    def _rounded(self, values: object) -> Array:
        return rounded(values, self._problem.dtype)

    def _floats(self, arrays: Mapping[str, object]) -> dict[str, Array]:
        return {name: self._rounded(value) for name, value in arrays.items()}

    def _snapshot(self, state: State) -> Snapshot:
        return Snapshot(*state).each(self._floats)


class _Lifting:
    """What enters as balls. The arrays of a full batch enter at every step and are lifted once."""

    def __init__(self) -> None:
        self._balls: dict[int, tuple[Array, BallArray]] = {}

    def __call__(self, array: Array) -> BallArray:
        entry = self._balls.get(id(array))
        if entry is None:
            if len(self._balls) >= REMEMBERED:
                self._balls.clear()
            entry = self._balls[id(array)] = array, lift(array)
        return entry[1]


def _lifted(arrays: Arrays) -> dict[str, Array]:
    return {name: lift(value) for name, value in sorted(arrays.items())}
