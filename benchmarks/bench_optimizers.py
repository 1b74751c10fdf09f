"""Ten updates of each optimizer, of a matrix of parameters, in each backend; the parameters are read at the end."""

import numpy as np
import pytest

from lockstep import backends
from lockstep.backends.ops import OPTIMIZERS
from lockstep.backends.problem import Layer, Loss, Optimizer, Problem
from lockstep.harness.benchmark.cost import numbers_updated

UPDATES = 10


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("backend", [*backends.entries(), "torch:foreach", "torch:fused"])
def bench_update(benchmark, agreed, stated, quick, backend, name):
    problem = one_matrix(name, 8 if quick else 512)
    loaded = backends.load(backend)
    if refusal := loaded.supports(problem):
        pytest.skip(refusal.reason)
    trainer = loaded.trainer(problem)
    _, _, grads = trainer.gradients(trainer.init(), next(iter(problem.batches())))
    given = trainer.read_grads(grads)
    benchmark.group = f"update {name}, {problem.x.shape[1]} squared"
    count = problem.initial["0.dot/w"].size
    moved = UPDATES * 2 * numbers_updated(problem) * problem.initial["0.dot/w"].itemsize
    stated(
        verdict=agreed(backend, one_matrix(name, 8).replace(epochs=5)),  # the rule is the same at any size
        bytes=moved,
        flops=UPDATES * 2 * count,  # a product and a sum each
        parameters=count,
    )

    def updates(state):
        for _ in range(UPDATES):
            state = trainer.apply(state, trainer.write_grads(given))
        return trainer.read(state)

    benchmark.pedantic(
        updates, setup=lambda: ((trainer.init(),), {}), rounds=2 if quick else 20, warmup_rounds=1
    )


def one_matrix(name, size):
    rng = np.random.default_rng(0)
    x = rng.random((4, size))
    return Problem(
        name=f"one matrix, {name}",
        x=x,
        y=np.zeros_like(x),
        model=(Layer("dot", size=size),),
        loss=Loss("squared_error", reduction="mean"),
        optimizer=Optimizer(name, learning_rate=1e-6),
        epochs=1,
        initial={"0.dot/w": rng.random((size, size))},
    )
