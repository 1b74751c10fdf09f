"""The initial numbers of a user's tree of NumPy arrays, as it was built."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from lockstep.backends.adoption import leaves
from lockstep.backends.numpy_vjp.adoption.trainer import NumPyAdopted
from lockstep.backends.protocol import Snapshot


def initial(given: object) -> Snapshot | None:
    """Of a tree of NumPy's arrays and scalars, all parameters, or of a trainer that was adopted from one."""
    if isinstance(given, NumPyAdopted):
        return given.read(given.init())
    arrays = leaves(given)
    if not arrays or not all(isinstance(one, (np.ndarray, np.generic)) for one in arrays.values()):
        return None
    return Snapshot({name: np.asarray(one) for name, one in sorted(arrays.items())})


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """With the global generators of NumPy and of Python seeded: users' code may draw from either."""
    ours, pythons = np.random.get_state(), random.getstate()  # noqa: NPY002
    np.random.seed(seed)  # noqa: NPY002
    random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(ours)  # noqa: NPY002
        random.setstate(pythons)
