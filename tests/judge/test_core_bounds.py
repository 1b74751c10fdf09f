"""The fixed tolerance, what proves nothing, and the ledger's limits: each number from below and from above.

`README.md` in this folder lists the numbers, and by how much each may be off before a test here fails.
"""

import dataclasses

import numpy as np
import pytest

import lockstep
from lockstep import Verdict
from lockstep.backends.numpy_vjp.backend import NumPyBackend
from lockstep.backends.problem import Layer
from lockstep.backends.protocol import LOSSES_ONLY
from lockstep.harness.core.compare import LOSS, Comparison, compare_whole
from lockstep.harness.core.ledger import compare_stages
from lockstep.harness.problems import find
from lockstep.harness.runs.workers import in_process
from tests.conftest import square_problem


def verified(change, dtype="float64", problem=None, **settings):
    """The seed on two backends whose runs are the same, but that `change` is made to the second one's trace."""
    problem = problem or find("seed")

    other = NumPyBackend()
    other.name = "other"

    def trainers(chosen, prepared):
        left, right = in_process(chosen, prepared)
        return iter([left, dataclasses.replace(right, trace=change(right.trace))])

    return lockstep.verify(problem, backends=["numpy", other], dtypes=[dtype], trainers=trainers, **settings)


def grown(share):
    """Losses and parameters that are larger by a share of themselves, rounded to their dtype."""

    def larger(value):
        return (value.astype(np.longdouble) * (1 + np.longdouble(share))).astype(value.dtype)

    def change(trace):
        final = dataclasses.replace(
            trace.final, parameters={name: larger(value) for name, value in trace.final.parameters.items()}
        )
        return dataclasses.replace(trace, losses=larger(trace.losses), final=final)

    return change


@pytest.mark.parametrize(
    ("dtype", "share", "verdict"),
    [
        # Measured between the three backends over 20,000 epochs: 1.9e-15 and 6.2e-7.
        ("float64", 1.9e-15, Verdict.AGREE),
        ("float64", 4e-15, Verdict.AGREE),
        ("float64", 3e-14, Verdict.DIFFER),
        ("float32", 6.2e-7, Verdict.AGREE),
        ("float32", 2e-6, Verdict.AGREE),
        ("float32", 1.6e-5, Verdict.DIFFER),
    ],
)
def test_the_fixed_tolerance_passes_three_backends_and_catches_three_times_its_size(dtype, share, verdict):
    assert verified(grown(share), dtype, tolerance="fixed").verdict is verdict


@pytest.mark.parametrize(
    ("dtype", "share", "settings", "verdict"),
    [
        ("float64", 4e-15, {"tolerance": "fixed"}, Verdict.AGREE),
        ("float64", 4e-15, {"rtol": 1e-14}, Verdict.DIFFER),
        ("float32", 2e-6, {"tolerance": "fixed"}, Verdict.AGREE),
        ("float32", 2e-6, {"rtol": 5e-6}, Verdict.DIFFER),
    ],
)
def test_the_fixed_tolerance_is_of_a_leafs_largest_and_the_users_of_each_element(
    dtype, share, settings, verdict
):
    """The smallest element of a leaf is off by a share of the largest, which is more than ten times as large."""

    def change(trace):
        parameters = {name: value.copy() for name, value in trace.final.parameters.items()}
        w = parameters["1.dot/w"]
        assert np.abs(w).max() > 10 * np.abs(w).min()
        w.flat[np.abs(w).argmin()] += share * np.abs(w).max()
        return dataclasses.replace(trace, final=dataclasses.replace(trace.final, parameters=parameters))

    result = verified(change, dtype, square_problem(), **settings)
    differing = [one.quantity for one in result.comparisons if one.verdict is Verdict.DIFFER]
    assert differing == ([] if verdict is Verdict.AGREE else ["1.dot/w"])


def nothing(trace):
    return trace


@pytest.mark.parametrize(("share", "verdict"), [(0.9, Verdict.AGREE), (1.1, Verdict.INCONCLUSIVE)])
def test_a_tolerance_that_zeros_would_pass_proves_nothing(share, verdict):
    """Of the losses and of the parameters: by an absolute tolerance just below the largest of them, or just above."""
    trainer = NumPyBackend().trainer(find("seed"))
    trace = trainer.fit(trainer.init(), find("seed").batches(), LOSSES_ONLY)
    result = verified(nothing, atol=share * trace.losses.max())
    found = {one.quantity: one.verdict for one in result.comparisons}
    assert found["loss"] is verdict
    parameters = trace.final.parameters
    largest = max(np.abs(one).max() for one in parameters.values())
    result = verified(nothing, atol=share * largest)
    found = {one.quantity: one.verdict for one in result.comparisons}
    assert {found[name] for name in parameters} == {verdict}


def test_a_run_that_moves_no_parameter_proves_nothing_and_a_difference_stays_one():
    """The targets are what the model gives, so that every gradient is 0."""
    problem = square_problem(
        x=np.ones((2, 1)),
        y=np.full((2, 1), 1.5),
        model=(Layer("linear", size=1),),
        initial={"0.linear/w": np.ones((1, 1)), "0.linear/b": np.full(1, 0.5)},
    )

    def lacking(trace):
        parameters = {"0.linear/w": trace.final.parameters["0.linear/w"]}
        return dataclasses.replace(trace, final=dataclasses.replace(trace.final, parameters=parameters))

    for change, bias in ((nothing, Verdict.INCONCLUSIVE), (lacking, Verdict.DIFFER)):
        result = verified(change, problem=problem, tolerance="fixed")
        found = {one.quantity: one.verdict for one in result.comparisons}
        assert (found["0.linear/w"], found["0.linear/b"]) == (Verdict.INCONCLUSIVE, bias), result.census()


@pytest.mark.parametrize(("share", "verdict"), [(0.98, Verdict.AGREE), (1.0, Verdict.INCONCLUSIVE)])
def test_a_limit_as_large_as_the_value_decides_nothing(share, verdict):
    value = np.array([0.5, -2.0])
    (row,) = compare_stages(3, {"loss": value}, {"loss": value.copy()}, {"loss": share * 2.0})
    assert row.verdict is verdict


def test_a_limit_beyond_the_value_still_shows_a_difference_beyond_it():
    (row,) = compare_stages(0, {"loss": np.ones(1)}, {"loss": np.full(1, 3.1)}, {"loss": 2.0})
    assert row.verdict is Verdict.DIFFER


@pytest.mark.parametrize(("share", "verdict"), [(1.0, Verdict.AGREE), (1.01, Verdict.DIFFER)])
def test_a_distance_up_to_its_limit_passes(share, verdict):
    """At the limit itself, which is a power of two so that nothing is rounded, and a hundredth beyond it."""
    (row,) = compare_stages(0, {"loss": np.ones(1)}, {"loss": np.array([1 + share / 64])}, {"loss": 1 / 64})
    assert row.verdict is verdict


def test_no_limit_decides_nothing():
    (row,) = compare_stages(0, {"loss": np.ones(1)}, {"loss": np.ones(1)}, {})
    assert row.verdict is Verdict.INCONCLUSIVE


NOT_COMPUTED = (
    "given/data/x",
    "initial/parameters/w",
    "state/parameters/w",
    "batch/x",
    "count",
    "step/count",
    "continued/count",
)
COMPUTED = (
    *(
        "forward/0",
        "loss",
        "cotangent/0",
        "gradient/w",
        "buffers/m",
        "clipped/w",
        "accumulator/w",
        "optimizer/m/w",
    ),
    *("update/w", "parameters/w", "average/w", "step/loss", "continued/parameters/w"),
)


@pytest.mark.parametrize("name", [*NOT_COMPUTED, *COMPUTED])
def test_what_nothing_computes_must_be_equal_to_the_bit(name):
    """Off by one unit in the last place, with a limit that would pass a thousand of them."""
    left = {name: np.ones(3)}
    right = {name: np.array([1.0, np.nextafter(1.0, 2.0), 1.0])}
    (row,) = compare_stages(0, left, right, {name: 1e-12})
    assert row.verdict is (Verdict.DIFFER if name in NOT_COMPUTED else Verdict.AGREE)
    (row,) = compare_stages(0, left, left, {name: 1e-12})
    assert row.verdict is Verdict.AGREE


@pytest.mark.parametrize(("more", "verdict"), [(0, Verdict.AGREE), (1, Verdict.DIFFER)])
@pytest.mark.parametrize("count", [0, 1, 1_000_000])
def test_a_count_may_not_be_off_by_one(count, more, verdict):
    blank = Comparison("p", "float64", "a", "b", LOSS, Verdict.AGREE)
    assert compare_whole(blank, np.array([count, 7]), np.array([count + more, 7])).verdict is verdict
