"""Adopted trainers that run on NumPy alone: a small perceptron as a user would write it, and ways to change what it does."""

import numpy as np

from lockstep.backends.numpy_vjp import add, dot, mean_squared_loss
from lockstep.backends.numpy_vjp.adoption.trainer import NumPyAdopted
from lockstep.backends.numpy_vjp.optimizers import OPTIMIZERS
from lockstep.backends.numpy_vjp.tables import FUNCTIONS
from lockstep.backends.problem import Optimizer

WIDTH = 4
EPS = {"float64": 2.0**-52, "float32": 2.0**-23}

((TANH, _),) = FUNCTIONS["tanh"]({})
CHAIN = [(dot, "w0"), (add, "b0"), (TANH, None), (dot, "w1"), (add, "b1")]
SAME = {name: name for _, name in CHAIN if name is not None}


def params(dtype="float64"):
    rng = np.random.default_rng(1)
    shapes = {"w0": (WIDTH, WIDTH), "b0": (WIDTH,), "w1": (WIDTH, 1), "b1": (1,)}
    return {name: rng.standard_normal(shape).astype(dtype) for name, shape in shapes.items()}


def batches(steps, rows=8, seed=0):
    rng = np.random.default_rng(seed)
    return [(rng.standard_normal((rows, WIDTH)), rng.standard_normal((rows, 1))) for _ in range(steps)]


def transform(name="sgd", **args):
    return OPTIMIZERS[name](Optimizer(name, **args).args, lambda step: 1.0)


def side(rate=0.1, *, momentum=0.0, kind=NumPyAdopted, dtype="float64", start=None, **settings):
    """The perceptron, trained by gradient descent; a subclass of `NumPyAdopted` changes what it does."""
    made = transform("sgd", learning_rate=rate, momentum=momentum)
    return kind(CHAIN, mean_squared_loss, made, start or params(dtype), settings.pop("name", "numpy"))


class Reversed(NumPyAdopted):
    """Right, but it takes the rows of a batch from the last to the first: its sums round otherwise."""

    def gradients(self, state, batch):
        return super().gradients(state, batch._replace(x=batch.x[::-1].copy(), y=batch.y[::-1].copy()))
