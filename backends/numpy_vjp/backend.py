"""The NumPy backend: a problem as a chain of functions, trained by hand-written VJPs."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager
from typing import NamedTuple

import numpy as np

from lockstep.backends.adoption import OptimizerSide
from lockstep.backends.numpy_vjp.adoption.initial import initial, seeded
from lockstep.backends.numpy_vjp.adoption.optimizer import optimizer_side
from lockstep.backends.numpy_vjp.arithmetic import FLOATS, Arithmetic
from lockstep.backends.numpy_vjp.averages import AVERAGES
from lockstep.backends.numpy_vjp.chain import backward_diff_chain, evaluate_chain
from lockstep.backends.numpy_vjp.clips import CLIPS
from lockstep.backends.numpy_vjp.function import Param
from lockstep.backends.numpy_vjp.fused import FusedRun, can_fuse
from lockstep.backends.numpy_vjp.model import (
    chain_of,
    masks_of,
    moved,
    named,
    resolve,
    statistics,
)
from lockstep.backends.numpy_vjp.observed import passes
from lockstep.backends.numpy_vjp.optimizers import OPTIMIZERS, OptimizerState, update_params
from lockstep.backends.numpy_vjp.penalties import PENALTIES, adding
from lockstep.backends.numpy_vjp.schedules import SCHEDULES
from lockstep.backends.numpy_vjp.tables import FUNCTIONS, JOINS, LOSSES
from lockstep.backends.numpy_vjp.twins import Noise
from lockstep.backends.problem import UNCLIPPED, Array, Arrays, Batch, Batches, Problem
from lockstep.backends.protocol import (
    NOTHING,
    Disturbed,
    DisturbedStep,
    Recording,
    Scalar,
    Snapshot,
    Trace,
    Unsupported,
    select,
    unsupported,
)

TABLES = {
    "layer": FUNCTIONS.keys() | JOINS.keys(),
    "loss": LOSSES,
    "optimizer": OPTIMIZERS,
    "schedule": SCHEDULES,
    "clip": CLIPS,
    "penalty": PENALTIES,
    "average": AVERAGES,
}


class State(NamedTuple):
    """The fields of a `Snapshot`, in its order, in the trainer's own numbers."""

    parameters: dict[str, Array]
    optimizer: OptimizerState
    step: int
    buffers: dict[str, Array]
    accumulator: Arrays
    average: Arrays

    @classmethod
    def of(cls, snapshot: Snapshot) -> State:
        """What a snapshot of a problem has: nothing extra."""
        return cls(**{name: getattr(snapshot, name) for name in cls._fields})


class NumPyTrainer:
    """A problem bound to the chain. Pure: no method changes its arguments."""

    capabilities = frozenset({"fit", "stages", "inject", "optimizer_state", "twins"})

    def __init__(self, problem: Problem, arithmetic: Arithmetic = FLOATS) -> None:
        self._problem = problem
        self._arithmetic = arithmetic
        lifted = arithmetic.args
        self._clip = CLIPS[problem.clip.name](lifted(problem.clip.args))
        factor = SCHEDULES[problem.schedule.name](lifted(problem.schedule.args))
        self._optimizer = OPTIMIZERS[problem.optimizer.name](lifted(problem.optimizer.args), factor)
        self._average = AVERAGES[problem.average.name](lifted(problem.average.args))
        self._penalise = adding(problem, arithmetic)
        self._layers = arithmetic.layers(problem.layers)
        self._chain = chain_of(self._layers, training=True)
        self._funcs = [*self._chain.funcs, LOSSES[problem.loss.name](lifted(problem.loss.args))]

    def given(self) -> Arrays:
        batches = self._problem.batches()
        initial = self._problem.initial_parameters()
        return {
            "data/x": batches.x,
            "data/y": batches.y,
            **{f"initial/{name}": value for name, value in initial.items()},
        }

    def init(self) -> State:
        lifted = self._arithmetic.arrays
        parameters = self._problem.initial_parameters()
        return State(
            lifted(parameters),
            lifted(self._problem.optimizer.initial_state(parameters)),
            0,
            lifted(self._problem.initial_buffers()),
            lifted(self._accumulator(parameters)),
            lifted(self._average.init(parameters)),
        )

    def step(self, state: State, batch: Batch) -> tuple[State, Scalar]:
        state, loss, grads = self.gradients(state, batch)
        return self.apply(state, grads), loss

    def gradients(self, state: State, batch: Batch) -> tuple[State, Scalar, dict[str, Array]]:
        params = self._chain_params(state, batch)
        loss, _, grads = backward_diff_chain(self._arithmetic.array(batch.x), self._funcs, params)
        return self._moved(state, batch), *self._penalise(loss, self._named(grads), state.parameters)

    def apply(self, state: State, grads: Arrays) -> State:
        step, every = state.step + 1, self._problem.accumulation
        grads = self._accumulated(state, grads)
        if step % every:
            return state._replace(step=step, accumulator=grads)
        updates, optimizer = self._optimizer.update(
            self._clip(grads), state.optimizer, state.parameters, step // every
        )
        parameters = update_params(updates, state.parameters)
        return state._replace(
            parameters=parameters,
            optimizer=optimizer,
            step=step,
            accumulator=self._accumulator(parameters),
            average=self._average.update(state.average, parameters, step // every),
        )

    def observe(
        self, state: State, batch: Batch, wanted: Collection[str], inject: Arrays = NOTHING
    ) -> Arrays:
        stages = self._stages(state, batch, inject)
        return {name: np.array(value) for name, value in select(stages, wanted).items()}

    def _stages(self, state: State, batch: Batch, inject: Arrays = NOTHING) -> dict[str, Array]:
        """Every stage up to the gradients, of a step from `state`, in the trainer's own numbers."""
        lifted = self._arithmetic
        params = self._chain_params(state, batch)
        observed = passes(lifted.array(batch.x), self._funcs, params, self._chain.ends, lifted.arrays(inject))
        loss, grads = self._penalise(observed.loss, self._named(observed.grads), state.parameters)
        return {
            **batch.stages(),
            **{f"forward/{layer}": value for layer, value in observed.outputs.items()},
            "loss": loss,
            **{f"cotangent/{layer}": value for layer, value in reversed(observed.cotangents.items())},
            **{f"gradient/{name}": grad for name, grad in grads.items()},
        }

    def clipped(self, state: State, grads: Arrays) -> Arrays:
        return _copies(self._clipped(state, grads))

    def _clipped(self, state: State, grads: Arrays) -> Arrays:
        """`clipped`, in the trainer's own numbers."""
        if self._problem.clip == UNCLIPPED or (state.step + 1) % self._problem.accumulation:
            return {}
        return self._clip(self._accumulated(state, grads))

    def predict(self, state: State, x: Array) -> Array:
        return np.array(self._evaluate(state, x))

    def _evaluate(self, state: State, x: Array) -> Array:
        """The prediction in evaluation mode, in the trainer's own numbers."""
        chain = chain_of(self._layers, training=False)
        values = {**state.parameters, **statistics(self._layers, state.buffers)}
        params = [resolve(names, values) for names in chain.names]
        return evaluate_chain(self._arithmetic.array(x), chain.funcs, params)

    def read(self, state: State) -> Snapshot:
        return Snapshot(*state).each(_copies)

    def write(self, state: State, snapshot: Snapshot) -> State:
        return State.of(snapshot.each(_copies))

    def read_grads(self, grads: Arrays) -> Arrays:
        return _copies(grads)

    def write_grads(self, arrays: Arrays) -> dict[str, Array]:
        return _copies(arrays)

    def fit(self, state: State, batches: Batches, recording: Recording) -> Trace:
        if can_fuse(self._problem):
            return self._fit_fused(state, batches, recording)
        losses = np.empty(len(batches), dtype=self._problem.dtype)
        history = [state.parameters]
        for index, batch in enumerate(batches):
            state, losses[index] = self.step(state, batch)
            if recording.parameters and (index + 1) % batches.per_epoch == 0:
                history.append(state.parameters)
        recorded = {name: np.stack([past[name] for past in history]) for name in state.parameters}
        return Trace(losses, self.read(state), recorded if recording.parameters else None)

    def _fit_fused(self, state: State, batches: Batches, recording: Recording) -> Trace:
        """`fit` by kernels in place of the chain; the optimizers are the same."""
        run = FusedRun(self._problem, state.parameters, self._optimizer, self._clip)
        losses, history, optimizer = run.train(batches, state.optimizer, state.step, recording.parameters)
        final = Snapshot(run.read(), _copies(optimizer), state.step + len(losses), _copies(state.buffers))
        return Trace(losses, final, history)

    def disturbed(self, batches: Batches, twins: int, seed: int) -> Disturbed:
        noise = Noise(twins, self._problem.dtype, seed)
        twin = NumPyTrainer(self._problem, noise.arithmetic)
        state, losses = twin.init(), []
        # Twins that diverge are judged by their numbers, as runs are.
        with np.errstate(all="ignore"):
            for batch in batches:
                state, loss = twin.step(state, batch)
                losses.append(noise.spread(loss))
            evaluation = noise.spread(twin._evaluate(state, batches.x)) if self._problem.has_modes else None
        return Disturbed(Trace(np.stack(losses, axis=1), _spread(noise, state)), evaluation)

    def disturbed_step(
        self, snapshot: Snapshot, batch: Batch, grads: Arrays, twins: int, seed: int
    ) -> DisturbedStep:
        noise = Noise(twins, self._problem.dtype, seed)
        twin = NumPyTrainer(self._problem, noise.arithmetic)
        lifted = noise.arithmetic.arrays
        state = State.of(snapshot.each(lifted))
        with np.errstate(all="ignore"):
            stages = twin._stages(state, batch)
            moved, _, own = twin.gradients(state, batch)
            clipped = twin._clipped(moved, lifted(grads))
            injected, undivided = twin.apply(moved, lifted(grads)), twin.apply(moved, own)
        stages |= {f"clipped/{name}": value for name, value in clipped.items()}
        spread = {name: noise.spread(value) for name, value in stages.items()}
        return DisturbedStep(spread, _spread(noise, injected), _spread(noise, undivided))

    def _chain_params(self, state: State, batch: Batch) -> list[Param]:
        """The parameters and masks in the chain's order; the target is the last function's constant."""
        values = {**state.parameters, **masks_of(self._arithmetic.arrays(batch.masks))}
        return [
            *(resolve(names, values) for names in self._chain.names),
            self._arithmetic.array(batch.y),
        ]

    def _accumulated(self, state: State, grads: Arrays) -> Arrays:
        """The gradients with those of the batches before that were not yet applied."""
        every = self._problem.accumulation
        if every == 1:
            return grads
        return {name: total + grads[name] / every for name, total in state.accumulator.items()}

    def _accumulator(self, parameters: Arrays) -> dict[str, Array]:
        """Gradients of no batch yet; nothing at all where each batch updates."""
        if self._problem.accumulation == 1:
            return {}
        return {name: np.zeros_like(value) for name, value in parameters.items()}

    def _named(self, grads: list[Param]) -> dict[str, Array]:
        return dict(sorted(named(self._chain.names, grads[:-1])))

    def _moved(self, state: State, batch: Batch) -> State:
        """The state with its buffers after the forward pass on `batch`."""
        if not state.buffers:
            return state
        lifted = self._arithmetic
        values = {**state.parameters, **state.buffers, **masks_of(lifted.arrays(batch.masks))}
        return state._replace(buffers=moved(self._layers, lifted.array(batch.x), values))


def _spread(noise: Noise, state: State) -> Snapshot:
    """A state of twins as arrays of their own."""
    return Snapshot(*state).each(lambda arrays: {name: noise.spread(value) for name, value in arrays.items()})


def _copies(arrays: Arrays) -> dict[str, Array]:
    return {name: np.array(value) for name, value in sorted(arrays.items())}


class NumPyBackend:
    """Hand-written VJPs in NumPy: the reference that the frameworks are compared with."""

    name = "numpy"

    def supports(self, problem: Problem) -> Unsupported | None:
        return unsupported(problem, TABLES)

    def trainer(self, problem: Problem) -> NumPyTrainer:
        return NumPyTrainer(problem)

    def optimizer_side(self, given: object) -> OptimizerSide | None:
        return optimizer_side(given)

    def initial(self, given: object) -> Snapshot | None:
        return initial(given)

    def seeded(self, seed: int) -> AbstractContextManager[object]:
        return seeded(seed)

    def fans(self, name: str, shape: tuple[int, ...]) -> tuple[int, int] | None:
        return None  # whoever writes NumPy chooses the layout

    def environment(self) -> Mapping[str, str | int | bool]:
        return {"version": np.__version__, "reduced_precision": False}
