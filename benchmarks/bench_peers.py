"""Libraries that do the same job: Keras 3 on each framework, and scikit-learn's SGDRegressor, one row a step."""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from benchmarks.fits import ours
from benchmarks.paired import interleaved, ratio, same
from benchmarks.problems import least, seed, tall
from lockstep.backends.problem import Batching, Loss, Optimizer

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("name", ["torch", "jax"])
def bench_keras(benchmark, agreed, stated, quick, rounds, name):
    """In a process of its own: Keras takes its backend when it is imported. float32, its default."""
    if find_spec("keras") is None:
        pytest.skip("Keras is not installed: pip install keras")
    epochs = 10 if quick else 1_000
    problem = seed(epochs).replace(dtype="float32")
    command = [sys.executable, "-m", "benchmarks.keras_fit", name, str(epochs), str(min(rounds, 5))]

    def run():
        done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
        return json.loads(done.stdout.splitlines()[-1])

    benchmark.group = "against Keras 3"
    content = benchmark.pedantic(run, rounds=1)
    print(f"\n{name} / Keras 3 on {name}, seed, {epochs} epochs: {content['ratio']:.4f}")
    stated(verdict=agreed(name, problem), **least(problem), **content)


def bench_scikit_learn(benchmark, agreed, stated, quick, rounds):
    """SGDRegressor's compiled loop over single rows against our steps of one row each."""
    linear_model = pytest.importorskip("sklearn.linear_model", reason="pip install scikit-learn")
    problem = tall(50 if quick else 2_000, 2, 2).replace(
        dtype="float64",
        batching=Batching(size=1),
        loss=Loss("half_squared_error"),
        optimizer=Optimizer("sgd", learning_rate=0.01),
    )
    batches = problem.batches()

    def theirs():
        model = linear_model.SGDRegressor(
            penalty=None,
            learning_rate="constant",
            eta0=0.01,
            shuffle=False,
            max_iter=problem.epochs,
            tol=None,
        )
        model.fit(batches.x, batches.y[:, 0], coef_init=np.zeros(2), intercept_init=np.zeros(1))
        return model.coef_[:, None], model.intercept_

    pair = {"ours": lambda: mine()[1:], "theirs": theirs}
    mine = ours("numpy", problem)
    same(pair, 1e-10)
    middle, low, high = ratio(interleaved(pair, rounds), "ours", "theirs")
    print(
        f"\nnumpy / SGDRegressor, {len(problem.x)} steps of one row: {middle:.1f} ({low:.1f} to {high:.1f})"
    )
    benchmark.group = "against scikit-learn"
    stated(verdict=agreed("numpy", problem), ratio=middle, quartiles=[low, high], **least(problem))
    benchmark.pedantic(pair["ours"], rounds=1)
