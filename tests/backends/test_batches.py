"""Batches: who sees which row when."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lockstep.backends.errors import ProblemError
from lockstep.backends.problem import Batches, Batching
from tests.conftest import square_problem


@given(st.integers(1, 30), st.integers(1, 30), st.none() | st.integers(0, 5), st.booleans())
def test_every_epoch_deals_each_row_once(rows, size, shuffle, keep_last):
    size = min(size, rows)
    x = np.arange(rows, dtype=float)[:, None]
    batches = Batches(x, -x, 3, Batching(size, shuffle, keep_last))
    dealt = list(batches)
    assert len(dealt) == len(batches) == 3 * batches.per_epoch
    for epoch in range(3):
        part = dealt[epoch * batches.per_epoch : (epoch + 1) * batches.per_epoch]
        assert {len(batch.x) for batch in part[:-1]} <= {size}
        assert len(part[-1].x) == size or keep_last
        seen = np.concatenate([batch.x[:, 0] for batch in part])
        assert len(set(seen)) == len(seen) == (rows if keep_last else rows // size * size)
        np.testing.assert_array_equal(np.concatenate([batch.y for batch in part])[:, 0], -seen)
        if shuffle is None:
            np.testing.assert_array_equal(seen, np.arange(len(seen)))


def test_epochs_differ_and_the_seed_fixes_them():
    one = Batching(5, shuffle=1)
    orders = [one.order(50, epoch) for epoch in (0, 1)]
    assert (orders[0] != orders[1]).any()
    np.testing.assert_array_equal(orders[0], Batching(7, shuffle=1).order(50, 0))
    assert (orders[0] != Batching(5, shuffle=2).order(50, 0)).any()


@pytest.mark.parametrize(
    ("batching", "words"),
    [
        (Batching(0), "size is not valid"),
        (Batching(2.0), "size is not valid"),
        (Batching(True), "size is not valid"),
        (Batching(4, shuffle=-1), "shuffle is not valid"),
        (Batching(13), "13 of 12 rows"),
        (Batching(shuffle=1), "without a size has no order"),
    ],
)
def test_what_is_refused(batching, words):
    with pytest.raises(ProblemError, match=words):
        square_problem(batching=batching)
