"""Each function on a matrix and its VJP, alone in NumPy, and a layer's forward and backward pass in each backend."""

import numpy as np
import pytest

from benchmarks.problems import least
from lockstep import backends
from lockstep.backends.numpy_vjp.tables import FUNCTIONS
from lockstep.backends.problem import Layer, Loss, Optimizer, Problem
from lockstep.harness.problems.initial import draw

PLAIN = ("exp", "log", "square", "sqrt", "abs", "relu", "leaky_relu", "elu", "selu", "gelu", "silu", "sigmoid", "tanh",
         "softplus", "log_sigmoid", "softmax", "log_softmax")  # fmt: skip
"""Those of a matrix alone."""
LAYERS = ("linear", "relu", "gelu", "tanh", "softmax", "layer_norm", "rms_norm", "batch_norm")


def rows_of(quick):
    return 10 if quick else 10_000


def drawn(shape):
    return np.random.default_rng(0).random(shape) + 0.5


@pytest.mark.parametrize("way", ["value", "vjp"])
@pytest.mark.parametrize("name", PLAIN)
def bench_function(benchmark, agreed, stated, quick, name, way):
    """Its values and gradients agree with the frameworks' on the same numbers; one operation an element at least."""
    x, u = drawn((2, rows_of(quick), 64))
    ((f, _),) = FUNCTIONS[name](Layer(name).args)
    benchmark.group = f"numpy, {way}, {len(x)} x 64"
    verdict = agreed("numpy", one_layer(name, 10))
    stated(verdict=verdict, bytes=x.nbytes * (2 if way == "value" else 3), flops=x.size)
    if way == "value":
        benchmark(f, x)
    else:
        back = f.make_vjp(x)
        benchmark(lambda: back(u))


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("backend", backends.entries())
def bench_layer(benchmark, agreed, stated, quick, backend, name):
    """Loss and gradients of one layer, framework's call included, read back into NumPy."""
    problem = one_layer(name, rows_of(quick))
    trainer = backends.load(backend).trainer(problem)
    batch, state = next(iter(problem.batches())), trainer.init()
    benchmark.group = f"layer {name}, {len(problem.x)} x 64"
    stated(verdict=agreed(backend, problem), **least(problem.replace(epochs=1)))

    def run():
        _, loss, grads = trainer.gradients(state, batch)
        return np.asarray(loss), trainer.read_grads(grads)

    run()
    benchmark(run)


def one_layer(name, rows):
    model = (Layer("scale"), Layer(name, **({"size": 64} if name == "linear" else {})))
    x = drawn((rows, 64))
    return Problem(
        name=f"one {name}",
        x=x,
        y=np.zeros_like(x),
        model=model,
        loss=Loss("squared_error", reduction="mean"),
        optimizer=Optimizer("sgd", learning_rate=0.01),
        epochs=2,
        initial=draw(model, (64,), seed=0),
    )
