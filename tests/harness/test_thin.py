"""Which points of a long curve are drawn."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from lockstep.harness.report.thin import STRETCHES, extremes


@pytest.mark.parametrize("length", [0, 1, 2, 2 * STRETCHES])
def test_a_short_curve_is_drawn_whole(length):
    assert extremes(np.zeros(length)).tolist() == list(range(length))


@given(arrays.arrays(np.float64, st.integers(201, 3000), elements=st.floats(width=32)))
def test_both_ends_every_extreme_and_every_gap_stay(values):
    kept = extremes(values)
    assert len(kept) <= 3 * STRETCHES + 2
    assert kept.tolist() == sorted(set(kept.tolist()))
    assert {0, len(values) - 1} <= set(kept.tolist())
    finite, left = values[np.isfinite(values)], values[kept]
    if finite.size:
        assert left[np.isfinite(left)].min() == finite.min()
        assert left[np.isfinite(left)].max() == finite.max()
    for start in range(0, len(values), len(values) // STRETCHES + 1):
        part = values[start : start + 2 * (len(values) // STRETCHES + 1)]
        if not np.isfinite(part).any():
            assert not np.isfinite(values[kept[(kept >= start) & (kept < start + len(part))]]).all()
