"""Faults of what surrounds the optimizer: each is the NumPy backend with one known mistake of a ported loop."""

import dataclasses

import numpy as np

from lockstep.backends.numpy_vjp.backend import NumPyTrainer
from lockstep.backends.problem import Average, Penalty, Schedule
from tests.meta.stepwise import StepwiseTrainer


class SumOfAccumulated(StepwiseTrainer):
    """Sums the accumulated gradients instead of averaging them: loss/k was forgotten."""

    def apply(self, state, grads):
        every = self._problem.accumulation
        return super().apply(state, {name: every * grad for name, grad in grads.items()})


class AccumulatorNotCleared(StepwiseTrainer):
    """Forgets zero_grad after the update."""

    def apply(self, state, grads):
        kept = {
            name: total + grads[name] / self._problem.accumulation
            for name, total in state.accumulator.items()
        }
        return super().apply(state, grads)._replace(accumulator=kept)


class RemainderApplied(StepwiseTrainer):
    """Makes an update of what is left over at the end."""

    def fit(self, state, batches, recording):
        trace = super().fit(state, batches, recording)
        state = self.write(state, trace.final)
        zeros = {name: np.zeros_like(value) for name, value in state.parameters.items()}
        while state.step % self._problem.accumulation:
            state = self.apply(state, zeros)
        return dataclasses.replace(trace, final=self.read(state))


class ScheduleCountsBatches(StepwiseTrainer):
    """Steps the schedule with every batch: γ^(k t) instead of γ^t."""

    def __init__(self, problem):
        factor = problem.schedule.args["factor"] ** problem.accumulation
        super().__init__(problem.replace(schedule=Schedule("exponential", factor=factor)))


class AverageFromZero(StepwiseTrainer):
    """Starts the average from zero and never corrects that."""

    def __init__(self, problem):
        super().__init__(problem.replace(average=Average("ema", **{**problem.average.args, "debias": True})))


class AverageOfEveryBatch(StepwiseTrainer):
    """Averages after every batch, also where nothing was updated."""

    def apply(self, state, grads):
        after = super().apply(state, grads)
        if after.step % self._problem.accumulation == 0:
            return after
        average = self._average.update(after.average, after.parameters, after.step + 1)
        return after._replace(average=average)


class AverageOfTheStepBefore(StepwiseTrainer):
    """Averages before the update instead of after it."""

    def apply(self, state, grads):
        after = super().apply(state, grads)
        number = after.step // self._problem.accumulation
        if after.step % self._problem.accumulation:
            return after
        return after._replace(average=self._average.update(state.average, state.parameters, number))


class AverageNeverKept(StepwiseTrainer):
    """Leaves the average out of its snapshot."""

    def read(self, state):
        return dataclasses.replace(super().read(state), average={})


class PenaltyNotInTheGradient(StepwiseTrainer):
    """Reports the penalised loss and descends the other."""

    def gradients(self, state, batch):
        _, _, grads = NumPyTrainer(self._problem.replace(penalties=())).gradients(state, batch)
        state, loss, _ = super().gradients(state, batch)
        return state, loss, grads


class PenaltyNotInTheLoss(StepwiseTrainer):
    """Descends the penalised loss and reports the other."""

    def gradients(self, state, batch):
        _, loss, _ = NumPyTrainer(self._problem.replace(penalties=())).gradients(state, batch)
        state, _, grads = super().gradients(state, batch)
        return state, loss, grads


class PenaltyOfTheBiasesToo(StepwiseTrainer):
    """Penalises every parameter."""

    def __init__(self, problem):
        every = tuple(Penalty(one.name, **{**one.args, "parameters": "all"}) for one in problem.penalties)
        super().__init__(problem.replace(penalties=every))


STEP_FAULTS = [fault for fault in StepwiseTrainer.__subclasses__() if fault.__module__ == __name__]


class AccumulatorNotPersisted(StepwiseTrainer):
    """Starts a new mean wherever training is continued: a free run cannot see it."""

    def write(self, state, snapshot):
        zeros = {name: np.zeros_like(value) for name, value in snapshot.accumulator.items()}
        return super().write(state, dataclasses.replace(snapshot, accumulator=zeros))


class AverageNotPersisted(StepwiseTrainer):
    """Starts a new average wherever training is continued."""

    def write(self, state, snapshot):
        return super().write(state, dataclasses.replace(snapshot, average=snapshot.parameters))


class UpdatesBetween(StepwiseTrainer):
    """Accumulates in `gradients`, which must update nothing."""

    def gradients(self, state, batch):
        state, loss, grads = super().gradients(state, batch)
        total = {name: kept + grads[name] for name, kept in state.accumulator.items()}
        return state._replace(accumulator=total), loss, grads


CONTINUATION_FAULTS = [AccumulatorNotPersisted, AverageNotPersisted]
