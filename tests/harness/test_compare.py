"""The comparison: inputs, shape, dtype, finiteness, value, in this order, and nothing vacuous."""

import dataclasses

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from lockstep.backends.problem import Average
from lockstep.backends.protocol import Snapshot, Trace
from lockstep.harness.core.compare import (
    Comparison,
    Fingerprint,
    Run,
    compare_arrays,
    compare_runs,
    expected_inputs,
    expected_of,
)
from lockstep.harness.core.tolerance import Tolerance, choose
from lockstep.harness.core.verdict import Verdict
from tests.conftest import square_problem

PROBLEM = square_problem()
FIXED = choose("float64")


def blank(quantity="loss", tolerance=FIXED):
    return Comparison(
        "p",
        "float64",
        "left",
        "right",
        quantity,
        Verdict.AGREE,
        "epoch" if quantity == "loss" else "index",
        tolerance=tolerance,
    )


def compared(left, right, quantity="loss", tolerance=FIXED, shape=None, dtype="float64"):
    left, right = np.asarray(left), np.asarray(right)
    return compare_arrays(blank(quantity, tolerance), left, right, shape or left.shape, dtype)


def run(backend="left", losses=None, parameters=None, **changes):
    """A run that trained the square problem, made by hand."""
    rng = np.random.default_rng(0)
    drawn = {name: rng.standard_normal(shape) for name, shape in PROBLEM.parameter_shapes.items()}
    trace = Trace(
        np.linspace(2, 1, PROBLEM.epochs) if losses is None else np.asarray(losses),
        Snapshot(drawn if parameters is None else parameters, {}, PROBLEM.epochs),
    )
    fields = {"trace": trace, "given": expected_inputs(PROBLEM), "environment": {"reduced_precision": False}}
    return Run(PROBLEM.name, PROBLEM.dtype, backend, **{**fields, **changes})


def verdicts(left, right, tolerance=FIXED):
    return {
        one.quantity: one.verdict
        for one in compare_runs(PROBLEM, left, right, tolerance, expected_of(PROBLEM))
    }


def test_equal_runs_agree_in_every_quantity():
    found = verdicts(run(), run("right"))
    assert set(found) == {"inputs", "loss", *PROBLEM.parameter_shapes}
    assert set(found.values()) == {Verdict.AGREE}


def test_shape_comes_before_value():
    one = compared(np.ones(3), np.ones((3, 1)))
    assert one.verdict is Verdict.DIFFER
    assert "shape (3,) against (3, 1)" in one.reason


def test_a_scalar_is_not_broadcast():
    assert compared(np.ones(()), np.ones((3, 2)), shape=(3, 2)).verdict is Verdict.DIFFER


def test_both_short_is_not_agreement():
    one = compared(np.ones(9), np.ones(9), shape=(10,))
    assert one.verdict is Verdict.DIFFER
    assert "the problem says (10,)" in one.reason


def test_dtype_comes_before_value():
    one = compared(np.ones(3), np.ones(3, np.float32))
    assert "dtype float64 against float32" in one.reason
    assert one.verdict is Verdict.DIFFER


def test_no_elements_is_inconclusive():
    assert compared(np.ones(0), np.ones(0)).verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize("lost", [np.nan, np.inf, -np.inf])
def test_not_finite_is_never_agreement(lost):
    values = np.array([3.0, 2.0, lost])
    one_side = compared(values, np.array([3.0, 2.0, 1.0]))
    assert one_side.verdict is Verdict.DIFFER
    assert "one side is not finite from epoch 2" in one_side.reason
    both = compared(values, values)
    assert both.verdict is Verdict.ERROR
    assert "both sides diverged: not finite from epoch 2" in both.reason


def test_a_difference_before_divergence_is_the_finding():
    one = compared([3.0, 2.0, np.nan], [3.0, 2.1, np.nan])
    assert one.verdict is Verdict.DIFFER
    assert one.first_failing == (1,)
    assert one.worst.index == (1,)


def test_opposite_extremes_do_not_warn():
    largest = np.finfo(np.float64).max
    assert compared([largest], [-largest]).verdict is Verdict.DIFFER


def test_every_figure_of_the_worst_place():
    one = compared([[1.0, 2.0], [4.0, 8.0]], [[1.0, 2.5], [4.0, 9.0]], "w", choose("float64", rtol=0.2))
    assert one.verdict is Verdict.DIFFER
    assert (one.elements, one.failing, one.first_failing) == (4, 1, (0, 1))
    assert one.worst.index == (0, 1)
    assert (one.worst.left, one.worst.right, one.worst.absolute, one.worst.relative) == (2.0, 2.5, 0.5, 0.25)
    assert one.smallest_rtol == pytest.approx(0.25)
    assert one.smallest_atol == pytest.approx(0.1)


values = st.floats(-1e6, 1e6, allow_subnormal=False)


@given(st.data(), st.booleans(), st.sampled_from([0.0, 1e-9, 1e-3]), st.sampled_from(["loss", "w"]))
def test_the_smallest_tolerance_passes_and_a_smaller_one_does_not(data, scaled, atol, quantity):
    left = data.draw(arrays(np.float64, 4, elements=st.floats(1e-3, 1e6)))
    right = left * (1 + data.draw(arrays(np.float64, 4, elements=st.floats(-0.5, 0.5))))
    found = compared(left, right, quantity, Tolerance(0.0, atol, scaled, "test"))
    assume(found.smallest_rtol > 1e-6)
    enough = Tolerance(found.smallest_rtol, atol, scaled, "test")
    short = Tolerance(found.smallest_rtol * (1 - 1e-3), atol, scaled, "test")
    assert compared(left, right, quantity, enough).verdict is Verdict.AGREE
    assert compared(left, right, quantity, short).verdict is Verdict.DIFFER
    absolute = Tolerance(0.0, found.smallest_atol, scaled, "test")
    assert compared(left, right, quantity, absolute).verdict is Verdict.AGREE


@given(arrays(np.float64, 5, elements=values), st.integers(0, 4), st.floats(2.5e-14, 1e-2))
def test_a_change_beyond_the_fixed_tolerance_is_found_wherever_it_is(losses, index, change):
    scale = max(abs(losses[index]), abs(losses[0]))
    assume(scale > 1e-6)
    moved = losses.copy()
    moved[index] += scale * change
    assert compared(losses, moved).verdict is Verdict.DIFFER


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"data/x": Fingerprint((1,), "float64", "0")}, "data/x: shape (1,), the problem says (12, 3)"),
        ({"data/x": Fingerprint((12, 3), "float32", "0")}, "data/x: dtype float32"),
        ({"data/x": Fingerprint((12, 3), "float64", "0")}, "data/x: other values"),
        ({"data/z": Fingerprint((12, 3), "float64", "0")}, "data/z: given, but not part"),
    ],
)
def test_other_inputs_differ_whatever_the_numbers_say(change, words):
    one, *rest = compare_runs(
        PROBLEM,
        run(),
        run("right", given={**expected_inputs(PROBLEM), **change}),
        FIXED,
        expected_of(PROBLEM),
    )
    assert one.verdict is Verdict.DIFFER
    assert words in one.reason
    assert {other.verdict for other in rest} == {Verdict.AGREE}


def test_what_was_not_given_differs():
    given = expected_inputs(PROBLEM)
    del given["initial/0.linear/w"]
    assert (
        "right: initial/0.linear/w: not given"
        in compare_runs(PROBLEM, run(), run("right", given=given), FIXED, expected_of(PROBLEM))[0].reason
    )


def test_the_same_wrong_inputs_on_both_sides_differ_from_the_problem():
    given = {**expected_inputs(PROBLEM), "data/x": Fingerprint((12, 3), "float64", "0")}
    assert verdicts(run(given=given), run("right", given=given))["inputs"] is Verdict.DIFFER


@pytest.mark.parametrize(
    ("dtype", "verdict"),
    [("float32", Verdict.DIFFER), ("float64", Verdict.AGREE)],
    ids=["float32", "float64"],
)
def test_a_precision_switch_on_one_side_differs_where_it_is_about_the_dtype(dtype, verdict):
    """TF32 and bfloat16 passes stand in for float32 products; those of float64 they leave alone."""
    problem = PROBLEM.replace(dtype=dtype)
    switched = (
        {"given": expected_inputs(problem), "environment": {"reduced_precision": one}}
        for one in (False, True)
    )
    left, right = (run(name, **changes) for name, changes in zip(("left", "right"), switched, strict=True))
    one = compare_runs(problem, left, right, FIXED, expected_of(problem))[0]
    assert one.verdict is verdict
    assert ("right rounds matrix products to less than float32" in one.reason) is (verdict is Verdict.DIFFER)


def test_unmatched_parameters_differ_on_either_side():
    full = run().trace.final.parameters
    short = {name: value for name, value in full.items() if name != "2.add/b"}
    more = {**full, "3.extra/w": np.ones(2)}
    for left, right in ((run(), run("right", parameters=short)), (run(parameters=short), run("right"))):
        assert verdicts(left, right)["2.add/b"] is Verdict.DIFFER
    assert verdicts(run(), run("right", parameters=more))["3.extra/w"] is Verdict.DIFFER
    assert verdicts(run(parameters=short), run("right", parameters=short))["2.add/b"] is Verdict.DIFFER


def average_of(problem, side, **changes):
    """A run that also kept an average: the parameters it was made with, and what is changed of them."""
    snapshot = side.trace.final
    kept = {name: value for name, value in {**snapshot.parameters, **changes}.items() if value is not None}
    final = dataclasses.replace(snapshot, average=kept)
    return dataclasses.replace(side, trace=dataclasses.replace(side.trace, final=final))


@pytest.mark.parametrize("debias", [False, True])
def test_averages_are_compared_where_the_problem_keeps_them(debias):
    problem = PROBLEM.replace(average=Average("ema", decay=0.9, debias=debias))
    moved = run().trace.final.parameters["2.add/b"] * (1 + 1e-12)

    def found(left, right):
        return {one.quantity: one for one in compare_runs(problem, left, right, FIXED, expected_of(problem))}

    whole = average_of(problem, run())
    assert {one.verdict for one in found(whole, average_of(problem, run("right"))).values()} == {
        Verdict.AGREE
    }
    assert set(found(whole, whole)) == {
        *("inputs", "loss"),
        *(prefix + name for prefix in ("", "average/") for name in PROBLEM.parameter_shapes),
    }
    for other in (moved, None, np.ones(3), moved.astype(np.float32)):
        one = found(whole, average_of(problem, run("right"), **{"2.add/b": other}))
        differing = [name for name in one if one[name].verdict is Verdict.DIFFER]
        assert differing == ["average/2.add/b"]
    missing = found(run(), run("right"))
    assert missing["average/0.linear/w"].reason == "missing from left and right"
    factor = 1 - 0.9**problem.steps if debias else 1
    expected = run().trace.final.parameters["2.add/b"] / factor
    assert found(whole, whole)["average/2.add/b"].worst.left in expected


def test_a_tolerance_that_lets_zeros_pass_is_inconclusive():
    wide = choose("float64", atol=100.0)
    found = verdicts(run(), run("right"), wide)
    assert found.pop("inputs") is Verdict.AGREE
    assert set(found.values()) == {Verdict.INCONCLUSIVE}


def test_a_leaf_of_small_numbers_alone_is_not_vacuous():
    parameters = dict(run().trace.final.parameters)
    parameters["2.add/b"] = np.full(2, 1e-9)
    found = verdicts(
        run(parameters=parameters), run("right", parameters=parameters), choose("float64", atol=1e-8)
    )
    assert found["2.add/b"] is Verdict.AGREE


def test_zeros_agree_with_zeros_only():
    assert compared(np.zeros(2), np.zeros(2), "w").verdict is Verdict.AGREE
    assert compared(np.zeros(2), np.full(2, 1e-300), "w").verdict is Verdict.DIFFER


def test_a_fingerprint_sees_bits_and_not_layout():
    array = np.arange(6.0).reshape(2, 3)
    assert Fingerprint.of(np.asfortranarray(array)) == Fingerprint.of(array)
    changed = array.copy()
    changed[0, 0] = -0.0
    assert Fingerprint.of(changed) != Fingerprint.of(array)
    assert Fingerprint.of(array.T) != Fingerprint.of(array)


def test_comparisons_are_values():
    with pytest.raises(dataclasses.FrozenInstanceError):
        blank().verdict = Verdict.DIFFER
