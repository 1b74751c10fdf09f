"""The seed's cost claim: right to left O(nm + md), left to right O(nmd + nd), as m ≈ d grow.

A chain Rⁿ → Rᵐ → Rᵈ → R with Jacobians of shapes (m, n), (d, m) and (1, d). The backward order multiplies matrices
with a vector, the forward order multiplies matrices; what each keeps at its peak is in `extra_info`.
"""

import tracemalloc

import numpy as np
import pytest

from lockstep.harness.core.verdict import Verdict

N = 64


def jacobians(width):
    rng = np.random.default_rng(0)
    return tuple(rng.standard_normal(shape) for shape in ((width, N), (width, width), (1, width)))


def right_to_left(first, second, last):
    """J₁ᵀ(J₂ᵀ∇h): two products of a matrix with a vector."""
    return first.T @ (second.T @ last.T)


def left_to_right(first, second, last):
    """((J₁ᵀJ₂ᵀ)∇h): a product of matrices first."""
    return (first.T @ second.T) @ last.T


def peak(order, factors):
    tracemalloc.start()
    order(*factors)
    size = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return size


@pytest.mark.parametrize("width", [64, 256, 1024])
@pytest.mark.parametrize("order", [right_to_left, left_to_right], ids=lambda order: order.__name__)
def bench_order(benchmark, stated, order, width):
    factors = jacobians(width)
    np.testing.assert_allclose(order(*factors), np.linalg.multi_dot(factors[::-1]).T, rtol=1e-8, atol=1e-8)
    benchmark.group = f"order, m = d = {width}"
    multiplications = N * width + width * (width if order is right_to_left else N * width)
    stated(
        verdict=Verdict.AGREE.value,
        bytes=sum(one.nbytes for one in factors),
        flops=2 * multiplications,
        multiplications=multiplications,
        peak_bytes=peak(order, factors),
    )
    benchmark(order, *factors)
