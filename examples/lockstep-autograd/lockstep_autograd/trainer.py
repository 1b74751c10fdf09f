"""The trainer: the methods of `lockstep.backends.protocol.Trainer`.

Its state is a `Snapshot` whose arrays are never changed in place: a step makes new ones. Reading and writing it is copying.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np
from autograd import value_and_grad
from autograd.tracer import getval

from lockstep.backends.problem import UNCLIPPED, Array, Arrays, Batch, Batches, Problem
from lockstep.backends.protocol import NOTHING, Recording, Snapshot, Trace, select
from lockstep_autograd.averages import AVERAGES, STARTS
from lockstep_autograd.clips import CLIPS
from lockstep_autograd.layers import Pass, chain, forward
from lockstep_autograd.losses import penalised, reduced
from lockstep_autograd.optimizers import updated
from lockstep_autograd.schedules import SCHEDULES
from lockstep_autograd.taps import tapped


class AutogradTrainer:
    """One problem, trained with autograd.

    Args:
        problem: what is trained, in its dtype.
    """

    capabilities = frozenset({"fit", "stages", "inject", "optimizer_state"})

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._batches, self._start = problem.batches(), problem.initial_parameters()

    def given(self) -> Arrays:
        initial = {f"initial/{name}": value for name, value in self._start.items()}
        return _copied({"data/x": self._batches.x, "data/y": self._batches.y, **initial})

    def init(self) -> Snapshot:
        problem, parameters = self._problem, _copied(self._start)
        return Snapshot(
            parameters,
            problem.optimizer.initial_state(parameters),
            buffers=problem.initial_buffers(),
            accumulator=_zeros(parameters) if problem.accumulation > 1 else {},
            average=STARTS[problem.average.name](parameters, problem.average.args),
        )

    def step(self, state: Snapshot, batch: Batch) -> tuple[Snapshot, Array]:
        state, loss, grads = self.gradients(state, batch)
        return self.apply(state, grads), loss

    def gradients(self, state: Snapshot, batch: Batch) -> tuple[Snapshot, Array, Arrays]:
        run = Pass(state.parameters, state.buffers, batch.masks)

        def objective(parameters: Arrays) -> Array:
            run.parameters = parameters
            return self._loss(run, chain(self._problem.layers, batch.x, run), batch.y)

        loss, grads = value_and_grad(objective)(state.parameters)
        return replace(state, buffers=run.buffers_after), loss, grads

    def apply(self, state: Snapshot, grads: Arrays) -> Snapshot:
        problem, state = self._problem, replace(state, step=state.step + 1)
        grads = self._accumulated(state, grads)
        if state.step % problem.accumulation:
            return replace(state, accumulator=grads)
        t = state.step // problem.accumulation
        clipped = CLIPS[problem.clip.name](grads, problem.clip.args)
        parameters, optimizer = updated(
            problem.optimizer, state.parameters, clipped, state.optimizer, t, self._rate(t - 1)
        )
        average = AVERAGES[problem.average.name](state.average, parameters, t, problem.average.args)
        return Snapshot(parameters, optimizer, state.step, state.buffers, _zeros(state.accumulator), average)

    def clipped(self, state: Snapshot, grads: Arrays) -> Arrays:
        clip, due = self._problem.clip, (state.step + 1) % self._problem.accumulation == 0
        if clip == UNCLIPPED or not due:
            return {}
        return _copied(CLIPS[clip.name](self._accumulated(state, grads), clip.args))

    def observe(
        self, state: Snapshot, batch: Batch, wanted: Collection[str], inject: Arrays = NOTHING
    ) -> Arrays:
        layers, outputs = self._problem.layers, {}

        def objective(parameters: Arrays, probes: Arrays) -> Array:
            run, value = Pass(parameters, state.buffers, batch.masks), batch.x
            for layer in layers:
                output = forward(layer, value, run)
                outputs[layer.name] = getval(output)
                value = tapped(layer.name, output, probes[layer.name], inject)
            return self._loss(run, value, batch.y)

        shapes = {layer.name: (len(batch.x), *layer.output_shape) for layer in layers}
        probes = {name: np.zeros(shape, self._problem.dtype) for name, shape in shapes.items()}
        loss, (grads, cotangents) = value_and_grad(objective, (0, 1))(state.parameters, probes)
        stages = {
            **{f"forward/{name}": value for name, value in outputs.items()},
            "loss": loss,
            **{f"cotangent/{name}": cotangents[name] for name in reversed(outputs)},
            **{f"gradient/{name}": value for name, value in grads.items()},
        }
        return select({**batch.stages(), **_copied(stages)}, wanted)

    def predict(self, state: Snapshot, x: Array) -> Array:
        return chain(self._problem.layers, x, Pass(state.parameters, state.buffers, masks=None))

    def read(self, state: Snapshot) -> Snapshot:
        return state.each(_copied)

    def write(self, state: Snapshot, snapshot: Snapshot) -> Snapshot:
        return snapshot.each(_copied)

    def read_grads(self, grads: Arrays) -> Arrays:
        return _copied(grads)

    def write_grads(self, arrays: Arrays) -> Arrays:
        return _copied(arrays)

    def fit(self, state: Snapshot, batches: Batches, recording: Recording) -> Trace:
        losses, history = [], [state.parameters]
        for index, batch in enumerate(batches, start=1):
            state, loss = self.step(state, batch)
            losses.append(loss)
            if recording.parameters and index % batches.per_epoch == 0:
                history.append(state.parameters)
        recorded = {name: np.stack([past[name] for past in history]) for name in state.parameters}
        return Trace(np.array(losses), self.read(state), recorded if recording.parameters else None)

    def _loss(self, run: Pass, prediction: Array, y: Array) -> Array:
        return penalised(self._problem, reduced(self._problem.loss, prediction, y), run.parameters)

    def _accumulated(self, state: Snapshot, grads: Arrays) -> Arrays:
        every = self._problem.accumulation
        if every == 1:
            return grads
        return {name: state.accumulator[name] + g / every for name, g in grads.items()}

    def _rate(self, t: int) -> float:
        """The learning rate of update t = 0, 1, 2, ..."""
        schedule = self._problem.schedule
        return self._problem.optimizer.args["learning_rate"] * SCHEDULES[schedule.name](t, schedule.args)


def _copied(arrays: Arrays) -> Arrays:
    """Copies in C order; autograd's gradients may be views of each other."""
    return {name: np.array(value, order="C") for name, value in arrays.items()}


def _zeros(arrays: Arrays) -> Arrays:
    return {name: np.zeros_like(value) for name, value in arrays.items()}
