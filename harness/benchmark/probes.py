"""The physical limits of this machine, as far as NumPy reaches them: copying memory, multiplying matrices."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

LEAST = 1 << 16
"""Bytes; to copy fewer takes as long as to call NumPy."""
SHARED = 1 << 20
"""Bytes from which on several threads copy, each its part."""
SIDE = 768
"""Rows and columns of the matrices."""
SECONDS = 0.1


def copy_rate(data: int, threads: int) -> float:
    """Bytes a second, read and written both counted, of copying so many bytes; the best of several tries.

    Data that fit into a cache are copied within it, as training on them runs within it.
    """
    data = max(data, LEAST)
    source, target = np.ones(data, np.uint8), np.zeros(data, np.uint8)
    parts = threads if data >= SHARED else 1
    edges = np.linspace(0, data, parts + 1).astype(int)
    slices = [slice(*pair) for pair in itertools.pairwise(edges)]
    if parts == 1:
        return 2 * data / _best(lambda: np.copyto(target, source))
    with ThreadPoolExecutor(parts) as pool:
        return 2 * data / _best(lambda: [*pool.map(lambda one: np.copyto(target[one], source[one]), slices)])


def matmul_rate(dtype: str) -> float:
    """Floating-point operations a second of a product of two square matrices, with the threads that BLAS is set to."""
    left = np.random.default_rng(0).random((SIDE, SIDE)).astype(dtype)
    target = np.empty_like(left)
    return float(2 * SIDE**3 / _best(lambda: np.matmul(left, left, out=target)))


def _best(work: Callable[[], object]) -> float:
    """The least seconds that it took, once warm, in SECONDS or three times."""
    work()
    taken: list[float] = []
    while len(taken) < 3 or sum(taken) < SECONDS:
        begun = time.perf_counter()
        work()
        taken.append(time.perf_counter() - begun)
    return min(taken)
