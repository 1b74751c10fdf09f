"""Backends that are broken on purpose: each is the NumPy backend with one fault of a known kind."""

import dataclasses

import numpy as np

from lockstep.backends.numpy_vjp.backend import NumPyBackend
from lockstep.backends.problem import Batching
from tests.meta.stepwise import StepwiseTrainer


class SignFlipped(StepwiseTrainer):
    """Ascends: the gradient has the wrong sign."""

    def apply(self, state, grads):
        return super().apply(state, {name: -grad for name, grad in grads.items()})


class MeanForSum(StepwiseTrainer):
    """Averages where the problem says sum (or sums where it says mean): loss and gradient off by n."""

    def __init__(self, problem):
        from lockstep.backends.problem import Loss

        other = {"sum": "mean", "mean": "sum"}[problem.loss.args["reduction"]]
        super().__init__(problem.replace(loss=Loss("squared_error", reduction=other)))


class StaleGradient(StepwiseTrainer):
    """Updates with the gradient of the step before."""

    previous = None

    def apply(self, state, grads):
        stale, self.previous = self.previous or grads, grads
        return super().apply(state, stale)


class TransposedSquareWeight(StepwiseTrainer):
    """Loads (out, in) weights as (in, out); only for square ones does nothing complain."""

    def init(self):
        state = super().init()
        turned = {
            name: value.T.copy() if value.ndim == 2 and value.shape[0] == value.shape[1] else value
            for name, value in state.parameters.items()
        }
        return state._replace(parameters=turned)


class OneEpochShort(StepwiseTrainer):
    """Stops one epoch early."""

    def fit(self, state, batches, recording):
        return super().fit(state, dataclasses.replace(batches, epochs=batches.epochs - 1), recording)


class OtherOrder(StepwiseTrainer):
    """Deals the rows to the batches in another order than the problem fixes."""

    def fit(self, state, batches, recording):
        size = batches.batching.size or len(batches.x) // 2
        return super().fit(
            state, dataclasses.replace(batches, batching=Batching(size=size, shuffle=99)), recording
        )


class LearningRateOff(StepwiseTrainer):
    """A learning rate that is off by one part in 10¹⁰."""

    def apply(self, state, grads):
        return super().apply(state, {name: grad * (1 + 1e-10) for name, grad in grads.items()})


class SinglePrecisionInside(StepwiseTrainer):
    """Rounds gradients to float32 in a float64 run."""

    def apply(self, state, grads):
        return super().apply(
            state, {name: grad.astype(np.float32).astype(grad.dtype) for name, grad in grads.items()}
        )


class ForgottenBias(StepwiseTrainer):
    """Never updates the biases."""

    def apply(self, state, grads):
        return super().apply(state, {name: grad for name, grad in grads.items() if not name.endswith("/b")})


class OtherData(StepwiseTrainer):
    """Trains on rows in another order: the same sums, not the same inputs."""

    def given(self):
        given = dict(super().given())
        given["data/x"] = given["data/x"][::-1].copy()
        return given


class LossOfTheNextStep(StepwiseTrainer):
    """Reports each loss after the update instead of before."""

    def step(self, state, batch):
        state, _ = super().step(state, batch)
        _, loss, _ = self.gradients(state, batch)
        return state, loss


class DroppedParameter(StepwiseTrainer):
    """Leaves a parameter out of its snapshot."""

    def read(self, state):
        snapshot = super().read(state)
        kept = dict(list(snapshot.parameters.items())[1:])
        return dataclasses.replace(snapshot, parameters=kept)


class WrongDtype(StepwiseTrainer):
    """Hands its parameters out in another precision."""

    def read(self, state):
        snapshot = super().read(state)
        turned = {name: value.astype(np.longdouble) for name, value in snapshot.parameters.items()}
        return dataclasses.replace(snapshot, parameters=turned)


class NotANumber(StepwiseTrainer):
    """One NaN in one parameter at the end."""

    def read(self, state):
        snapshot = super().read(state)
        if snapshot.step:
            next(iter(snapshot.parameters.values())).flat[0] = np.nan
        return snapshot


class Constant(StepwiseTrainer):
    """Claims losses and parameters without training: all zero."""

    def fit(self, state, batches, recording):
        trace = super().fit(state, batches, recording)
        zeros = {name: np.zeros_like(value) for name, value in trace.final.parameters.items()}
        final = dataclasses.replace(trace.final, parameters=zeros)
        return dataclasses.replace(trace, losses=np.zeros_like(trace.losses), final=final)


FAULTS = [fault for fault in StepwiseTrainer.__subclasses__() if fault.__module__ == __name__]


class Broken(NumPyBackend):
    """The NumPy backend with a faulty trainer."""

    name = "broken"

    def __init__(self, fault):
        self._fault = fault

    def trainer(self, problem):
        return self._fault(problem)
