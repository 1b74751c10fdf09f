"""Special functions that NumPy lacks: SciPy's over floats, the number type's own method over objects."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.special

from backends.problem import Array


def erfc(x: Array) -> Array:
    """The complementary error function 1 − erf(x), accurate where erf(x) is near 1."""
    if np.asarray(x).dtype == object:
        found: Any = np.frompyfunc(lambda value: value.erfc(), 1, 1)(x)
        return found
    smooth: Array = scipy.special.erfc(x)
    return smooth
