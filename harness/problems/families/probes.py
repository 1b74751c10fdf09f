"""Probing problems: each exposes what an easy problem hides. Small numbers, spikes, zeros, ties, boundaries."""

from __future__ import annotations

import numpy as np

from lockstep.backends.problem import Batching, Layer, Loss, Optimizer, Problem, Schedule
from lockstep.harness.problems import Entry
from lockstep.harness.problems.families.optimizers import network
from lockstep.harness.problems.initial import draw

ROWS = 24


def _network(name: str, activation: Layer, scale: float = 1.0) -> Problem:
    """A square weight, an activation and a line, by gradient descent."""
    rng = np.random.default_rng(41)
    x = rng.standard_normal((ROWS, 3))
    model = (Layer("linear", size=3), activation, Layer("linear", size=1))
    return Problem(
        name=name,
        x=x,
        y=scale * (x[:, :1] * x[:, 1:2] + 0.3 * x[:, 2:]),
        model=model,
        loss=Loss("squared_error", reduction="mean"),
        optimizer=Optimizer("sgd", learning_rate=0.1),
        epochs=30,
        initial=draw(model, (3,), seed=6),
    )


def square() -> Problem:
    """A weight of which a transposed copy fits without complaint."""
    return _network("probe-square", Layer("tanh"))


def gelu() -> Problem:
    """Both GELUs agree to four digits."""
    return _network("probe-gelu", Layer("gelu"))


def leaky() -> Problem:
    """A slope left of 0 that shows only where the input is negative."""
    return _network("probe-leaky", Layer("leaky_relu", slope=0.01))


def relu() -> Problem:
    """Half of the rows are 0, and so is the bias: every unit starts exactly at its kink there."""
    problem = _network("probe-relu", Layer("relu"))
    x = problem.x.copy()
    x[::2] = 0
    return problem.replace(x=x, y=np.abs(problem.y))


def dead() -> Problem:
    """Units that no row opens: their parameters never get a gradient, and must stay as they are to the bit."""
    problem = _network("probe-dead", Layer("relu"))
    initial = dict(problem.initial)
    bias = np.array(initial["0.linear/b"])
    bias[0] = -100.0
    return problem.replace(initial={**initial, "0.linear/b": bias})


def double() -> Problem:
    """Data that float32 cannot represent, next to some that it can: rounding them shows in the first batch."""
    problem = _network("probe-double", Layer("tanh"))
    x = np.array(problem.x)
    x[:, 0] = np.round(x[:, 0] * 8) / 8
    return problem.replace(x=x)


def _small(name: str, optimizer: Optimizer) -> Problem:
    """A loss of 1e-8 of the usual: gradients near 1e-8, where the place and size of epsilon decide."""
    problem = network(name, optimizer)
    model = (*problem.model, Layer("scale"))
    initial = {**problem.initial, f"{len(problem.model)}.scale/s": np.full(1, 1e-4)}
    return problem.replace(model=model, y=1e-4 * problem.y, initial=initial)


def small() -> Problem:
    """Adam divides by √v̂ + 1e-8 when √v̂ is no larger than that."""
    return _small("probe-small", Optimizer("adam", learning_rate=1e-5))


def small_rmsprop() -> Problem:
    """RMSprop likewise; inside the root the same epsilon is four orders larger."""
    return _small("probe-small-rmsprop", Optimizer("rmsprop", learning_rate=1e-5))


def _spike(name: str, optimizer: Optimizer) -> Problem:
    """One batch whose rows and targets are far larger, the second: the optimizer's memory of it decides all later steps."""
    problem = network(name, optimizer)
    rows = len(problem.x) // 4
    x, y = np.array(problem.x), np.array(problem.y)
    x[rows : 2 * rows] *= 3
    y[rows : 2 * rows] *= 30
    return problem.replace(x=x, y=y, batching=Batching(size=rows), epochs=10)


def spike() -> Problem:
    """Adam: how fast the second moment forgets."""
    return _spike("probe-spike", Optimizer("adam", learning_rate=0.01))


def spike_amsgrad() -> Problem:
    """AMSGrad never forgets: it keeps the maximum."""
    return _spike("probe-spike-amsgrad", Optimizer("adam", learning_rate=0.01, amsgrad=True))


def boundary() -> Problem:
    """Boundaries at a distance of one step, at the first step, and at a batch that is short."""
    problem = _network("probe-boundary", Layer("tanh"))
    return problem.replace(
        batching=Batching(size=7, shuffle=3, keep_last=True),
        schedule=Schedule("piecewise", boundaries=[1, 3, 4, 5], factors=[0.5, 2.0, 0.1, 3.0]),
        epochs=5,
    )


PROBLEMS = {
    "probe-square": Entry(square, "a square weight, which fits transposed"),
    "probe-gelu": Entry(gelu, "two GELUs that agree to four digits"),
    "probe-leaky": Entry(leaky, "a slope that shows only left of 0"),
    "probe-relu": Entry(relu, "exact zeros: every unit starts at its kink on half of the rows"),
    "probe-dead": Entry(dead, "parameters that never get a gradient"),
    "probe-double": Entry(double, "data that float32 cannot represent next to data that it can"),
    "probe-small": Entry(small, "a loss scaled by 1e-8: Adam's epsilon decides"),
    "probe-small-rmsprop": Entry(small_rmsprop, "a loss scaled by 1e-8: the place of epsilon decides"),
    "probe-spike": Entry(spike, "a gradient spike at step 2: how fast squares are forgotten"),
    "probe-spike-amsgrad": Entry(spike_amsgrad, "a gradient spike at step 2: AMSGrad remembers it"),
    "probe-boundary": Entry(boundary, "schedule boundaries side by side, and short batches"),
}
