"""What contracting over the batch saves against the seed's per-example gradients, summed later."""

import numpy as np
import pytest

from lockstep.backends.numpy_vjp import dot
from lockstep.harness.core.verdict import Verdict


def contracted(x, w, u):
    """Our VJP: xᵀu."""
    return dot.make_vjp(x, w)(u)[1]


def per_example(x, w, u):
    """The notebook's: one outer product per example, summed in the optimizer."""
    return np.einsum("na,nb->nab", x, u).sum(0)


@pytest.mark.parametrize("rows", [30, 1_000, 100_000])
@pytest.mark.parametrize("way", [contracted, per_example], ids=lambda way: way.__name__)
def bench_weight_gradient(benchmark, stated, way, rows):
    rng = np.random.default_rng(0)
    x, w, u = (rng.standard_normal(shape) for shape in ((rows, 8), (8, 4), (rows, 4)))
    np.testing.assert_allclose(way(x, w, u), x.T @ u, rtol=1e-9, atol=1e-9)
    benchmark.group = f"weight gradient, {rows} rows of 8 to 4"
    stated(
        verdict=Verdict.AGREE.value,
        bytes=x.nbytes + u.nbytes + w.nbytes,
        flops=2 * rows * w.size,
        intermediate_bytes=rows * w.nbytes if way is per_example else 0,
    )
    benchmark(way, x, w, u)
