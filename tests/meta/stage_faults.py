"""Faults of single stages: each is the NumPy backend with one mistake, and says where a lockstep run must find it.

A fault names the problem on which it shows, the row that is to be blamed first, and the explanation that is to be
confirmed, or None where none of the known mistakes is the one.
"""

import dataclasses

import numpy as np

from lockstep.backends.numpy_vjp.backend import NumPyTrainer
from lockstep.backends.numpy_vjp.function import Function
from lockstep.backends.problem import Average, Batching, Layer, Loss, Optimizer, Schedule
from tests.conftest import square_problem
from tests.meta.stepwise import StepwiseTrainer

SQUARE = square_problem()
DEEP = square_problem(
    model=(Layer("linear", size=3), Layer("tanh"), Layer("linear", size=2)),
    initial={
        "0.linear/w": SQUARE.initial["0.linear/w"],
        "0.linear/b": SQUARE.initial["0.linear/b"],
        "2.linear/w": SQUARE.initial["1.dot/w"],
        "2.linear/b": SQUARE.initial["2.add/b"],
    },
)
ADAM = SQUARE.replace(optimizer=Optimizer("adam", learning_rate=0.01))
BATCHED = SQUARE.replace(batching=Batching(size=5, shuffle=1))


def momentum(**args):
    return Optimizer("sgd", learning_rate=0.05, momentum=0.9, **args)


class OtherOptimizer(StepwiseTrainer):
    """Trains with another optimizer; subclasses say which."""

    optimizer = None

    def __init__(self, problem):
        super().__init__(problem.replace(optimizer=self.optimizer))


class ForwardOff(StepwiseTrainer):
    """tanh is off by one part in 10¹²."""

    problem, row, explanation = DEEP, (0, "forward/1.tanh"), None

    def __init__(self, problem):
        super().__init__(problem)
        place = self._chain.ends["1.tanh"] - 1
        true = self._funcs[place]
        self._funcs[place] = Function(lambda x, w: true(x, w) * (1 + 1e-12))
        self._funcs[place].define_vjp(true.make_vjp)


class CotangentOff(StepwiseTrainer):
    """tanh' is taken for 1 − |tanh|."""

    problem, row, explanation = DEEP, (0, "cotangent/0.linear"), None

    def __init__(self, problem):
        super().__init__(problem)
        place = self._chain.ends["1.tanh"] - 1
        true = self._funcs[place]
        self._funcs[place] = Function(lambda x, w: true(x, w))
        self._funcs[place].define_vjp(lambda x, w: lambda u: (u * (1 - np.abs(np.tanh(x))), None))


class GradientOfOneParameter(StepwiseTrainer):
    """One element of one gradient is doubled."""

    problem, row, explanation = SQUARE, (0, "gradient/1.dot/w"), None

    def gradients(self, state, batch):
        state, loss, grads = super().gradients(state, batch)
        grads["1.dot/w"][2, 1] *= 2
        return state, loss, grads


class TransposedGradient(StepwiseTrainer):
    """The gradient of a square weight is transposed."""

    problem, row, explanation = SQUARE, (0, "gradient/0.linear/w"), "transposed gradient"

    def gradients(self, state, batch):
        state, loss, grads = super().gradients(state, batch)
        return state, loss, {**grads, "0.linear/w": grads["0.linear/w"].T.copy()}


class SumForMean(StepwiseTrainer):
    """Sums the loss."""

    problem, row, explanation = SQUARE, (0, "loss"), "mean and sum"

    def __init__(self, problem):
        super().__init__(problem.replace(loss=Loss("squared_error", reduction="sum")))


class HalfSquares(StepwiseTrainer):
    """Takes e²/2 for e²."""

    problem, row, explanation = SQUARE, (0, "loss"), "half squares"

    def __init__(self, problem):
        super().__init__(problem.replace(loss=Loss("half_squared_error", reduction="mean")))


class LastBatchDropped(StepwiseTrainer):
    """`fit` drops the last, short batch."""

    problem, row, explanation = BATCHED, (17, "fit/loss"), "last batch"

    def fit(self, state, batches, recording):
        batching = dataclasses.replace(batches.batching, keep_last=False)
        return super().fit(state, dataclasses.replace(batches, batching=batching), recording)


class NesterovForPlain(OtherOptimizer):
    """Looks ahead where the problem does not."""

    problem, row, explanation = (
        SQUARE.replace(optimizer=momentum()),
        (0, "update"),
        "Nesterov and plain momentum",
    )
    optimizer = momentum(nesterov=True)


class Damped(OtherOptimizer):
    """b ← μ b + (1 − μ) g."""

    problem, row, explanation = SQUARE.replace(optimizer=momentum()), (0, "optimizer/momentum"), "dampening"
    optimizer = momentum(dampening=0.9, first_damped=True)


class Decoupled(OtherOptimizer):
    """Decouples the weight decay."""

    problem = SQUARE.replace(optimizer=Optimizer("adam", learning_rate=0.01, weight_decay=0.1))
    row, explanation = (0, "optimizer/mean"), "weight decay"
    optimizer = Optimizer("adam", learning_rate=0.01, weight_decay=0.1, decoupled=True)


class EpsilonInside(OtherOptimizer):
    """√(v̂ + ε) for √v̂ + ε."""

    problem = SQUARE.replace(optimizer=Optimizer("rmsprop", learning_rate=0.01, epsilon=1e-6))
    row, explanation = (0, "update"), "place of epsilon"
    optimizer = Optimizer("rmsprop", learning_rate=0.01, epsilon=1e-6, epsilon_inside=True)


class NoBiasCorrection(StepwiseTrainer):
    """m / (√v + ε) for m̂ / (√v̂ + ε)."""

    problem, row, explanation = ADAM, (0, "update"), "bias correction"

    def apply(self, state, grads):
        after, args = super().apply(state, grads), self._problem.optimizer.args
        parameters = {
            name: value
            - args["learning_rate"]
            * after.optimizer[f"mean/{name}"]
            / (np.sqrt(after.optimizer[f"square/{name}"]) + args["epsilon"])
            for name, value in state.parameters.items()
        }
        return after._replace(parameters=parameters)


class ScheduleAhead(StepwiseTrainer):
    """The learning rate changes one step early."""

    problem = SQUARE.replace(schedule=Schedule("step", steps=3, factor=0.1))
    row, explanation = (2, "update"), "schedule"

    def __init__(self, problem):
        super().__init__(problem)
        factor = problem.schedule.args["factor"]
        replaced = problem.replace(
            schedule=Schedule("piecewise", boundaries=(2, 5), factors=(factor, factor))
        )
        self._optimizer = NumPyTrainer(replaced)._optimizer


class LearningRateOffAtLast(StepwiseTrainer):
    """The last update alone is off by one part in 10⁹: only the last step can show it."""

    problem, row, explanation = SQUARE, (5, "update"), None

    def apply(self, state, grads):
        factor = 1 + 1e-9 if state.step == 5 else 1
        return super().apply(state, {name: factor * grad for name, grad in grads.items()})


class AverageLate(StepwiseTrainer):
    """Averages before the update."""

    problem = SQUARE.replace(average=Average("ema", decay=0.9))
    row, explanation = (0, "average"), None

    def apply(self, state, grads):
        after = super().apply(state, grads)
        return after._replace(average=self._average.update(state.average, state.parameters, after.step))


class CounterReset(StepwiseTrainer):
    """Forgets the count of steps where training is continued."""

    problem, row, explanation = ADAM, (1, "state/count"), None

    def write(self, state, snapshot):
        return super().write(state, dataclasses.replace(snapshot, step=0))


class MomentNotPersisted(StepwiseTrainer):
    """Forgets a moment where training is continued."""

    problem, row, explanation = ADAM, (1, "state/optimizer/mean"), None

    def write(self, state, snapshot):
        state = super().write(state, snapshot)
        zeros = {name: value * (not name.startswith("mean/")) for name, value in state.optimizer.items()}
        return state._replace(optimizer=zeros)


class HiddenState(StepwiseTrainer):
    """Keeps in itself, not in its state, how often it was called, and forgets every 17th update."""

    problem, row, explanation = SQUARE.replace(epochs=34), (16, "continued/parameters"), None
    calls = 0

    def step(self, state, batch):
        self.calls += 1
        after, loss = super().step(state, batch)
        return (state._replace(step=after.step) if self.calls % 17 == 0 else after), loss


class FusedPathOff(StepwiseTrainer):
    """The fused run trains with another learning rate than its steps."""

    problem, row, explanation = SQUARE, (1, "fit/loss"), None

    def fit(self, state, batches, recording):
        near = self._problem.replace(optimizer=Optimizer("sgd", learning_rate=0.05 * (1 + 1e-9)))
        return NumPyTrainer(near).fit(state, batches, recording)


STAGE_FAULTS = [
    fault
    for parent in (StepwiseTrainer, OtherOptimizer)
    for fault in parent.__subclasses__()
    if fault.__module__ == __name__ and fault is not OtherOptimizer
]
