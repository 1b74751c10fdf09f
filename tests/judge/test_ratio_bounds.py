"""What proposals are read off by: each threshold from both sides."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest

from lockstep.backends.problem import Batch
from lockstep.backends.protocol import Snapshot
from lockstep.harness.explanations import observed, observed_updates
from lockstep.harness.explanations.each_step import read_steps
from lockstep.harness.explanations.evidence import Evidence, StepNumbers
from lockstep.harness.explanations.ratios import compared, in_words
from lockstep.harness.runs.observed import Observed
from tests.conftest import square_problem

EPS = np.finfo(np.float64).eps
ONES = np.linspace(0.5, 1.0, 6).reshape(2, 3)


def evidence(kind, left, right, before=None, dtype="float64"):
    """One step of which only one kind of stage was observed."""
    stages = [{f"{kind}/{name}": np.asarray(value) for name, value in one.items()} for one in (left, right)]
    state = Snapshot(before or dict.fromkeys(left, np.zeros((2, 3))))
    batch = Batch(np.zeros((12, 3)), np.zeros((12, 2)), {})
    return Evidence(square_problem(dtype=dtype), 0, observed=Observed(0, batch, state, *stages))


def differing(left, right, kind="gradient", **settings):
    return set(compared(evidence(kind, left, right, **settings), kind).differing)


def test_rounding_is_no_difference_and_what_is_beyond_it_is():
    assert not differing({"w": ONES}, {"w": ONES * (1 + 7 * EPS)})
    assert differing({"w": ONES}, {"w": ONES * (1 + 20 * EPS)}) == {"w"}


def test_in_single_precision_rounding_is_coarser():
    left, right = ONES.astype(np.float32), (ONES * (1 + 1e-7)).astype(np.float32)
    assert not differing({"w": left}, {"w": right}, dtype="float32")
    assert differing({"w": ONES}, {"w": ONES * (1 + 1e-7)}) == {"w"}


def test_of_gradients_the_largest_decides_what_rounding_is():
    """A bias before a batch norm: its gradient is rounding alone, of what the others are made of."""
    noise = {"w": ONES, "b": 1e-16 * ONES}
    assert not differing(noise, {"w": ONES, "b": -1e-16 * ONES})
    assert differing(noise, {"w": ONES, "b": 1e-13 * ONES}) == {"b"}
    assert differing(noise, {"w": ONES * (1 + 1e-8), "b": -1e-16 * ONES}) == {"w"}


def test_an_update_is_rounded_as_the_parameters_are():
    small = 1e-6 * ONES
    off = small + 4 * EPS
    assert not differing({"w": small}, {"w": off}, kind="update", before={"w": ONES})
    assert differing({"w": small}, {"w": off}, kind="update", before={"w": 1e-6 * ONES}) == {"w"}


def test_beside_a_gross_difference_a_fine_one_is_rounding():
    left = {"w": ONES, "b": ONES}
    for off, found in ((5e-5, {"w"}), (2e-4, {"w", "b"})):
        assert differing(left, {"w": 0 * ONES, "b": ONES * (1 + off)}) == found


@pytest.mark.parametrize(("off", "holds"), [(3e-5, True), (3e-4, False)])
def test_a_multiple_is_one_of_every_element(off, holds):
    """As near as a ten-thousandth of what is apart."""
    right = 2 * ONES
    right[0, 0] *= 1 + off
    ratio = compared(evidence("gradient", {"w": ONES}, {"w": right}), "gradient").common
    assert (ratio is not None) == holds
    assert not holds or ratio == pytest.approx(2, rel=1e-4)


def test_a_multiple_is_one_of_every_array():
    left = {"w": ONES, "b": ONES}
    assert compared(evidence("gradient", left, {"w": 2 * ONES, "b": 2 * ONES}), "gradient").common == 2
    found = compared(evidence("gradient", left, {"w": 2 * ONES, "b": 3 * ONES}), "gradient")
    assert found.common is None
    assert found.ratios == {"w": pytest.approx(2), "b": pytest.approx(3)}


def test_what_is_zero_is_a_multiple_of_anything_and_nothing_one_of_it():
    zero = np.zeros((2, 3))
    assert compared(evidence("gradient", {"w": ONES}, {"w": zero}), "gradient").ratios == {"w": 0}
    assert compared(evidence("gradient", {"w": zero}, {"w": ONES}), "gradient").ratios == {"w": None}


def test_what_is_not_comparable_is_left_out():
    lost = np.full((2, 3), np.nan)
    left = {"w": ONES, "b": ONES, "c": ONES}
    assert not compared(evidence("gradient", left, {"w": ONES.T, "b": lost}), "gradient").pairs


@pytest.mark.parametrize(
    ("ratio", "words"),
    [(2.0, "2"), (1.1, "1.1"), (1 + 1.234e-8, "1.0000000123"), (1 - 1e-9, "0.999999999"), (-3.0, "-3")],
)
def test_a_ratio_has_as_many_digits_as_tell_it_from_one(ratio, words):
    assert in_words(ratio) == words


@pytest.mark.parametrize(
    ("off", "words"),
    [(5e-5, "as many as the rows of a batch"), (2e-4, "multiplies its gradients by 12.0024")],
)
def test_a_number_is_a_count_only_where_it_is_near_to_one(off, words):
    ratio = 12 * (1 + off)
    (found,) = observed.gradients_multiplied(evidence("gradient", {"w": ONES}, {"w": ratio * ONES}))
    assert found.description.endswith(words)


@pytest.mark.parametrize(
    ("ratio", "words"),
    [(1 / 2, "1/2"), (1 / 12, "1/12, as many as the rows of a batch"), (1.0 / 3, "0.333333"), (3.0, "3")],
)
def test_a_share_is_that_of_a_count(ratio, words):
    (found,) = observed.gradients_multiplied(evidence("gradient", {"w": ONES}, {"w": ratio * ONES}))
    assert found.description == f"multiplies its gradients by {words}"


@pytest.mark.parametrize("factors", [(2.0, 3.0), (2.0, None), (None, None)])
def test_what_moves_is_not_untouched(factors):
    """Twice and three times as far; or no multiple of the update."""
    rights = {
        name: ONES[::-1] ** 2 if factor is None else factor * ONES
        for name, factor in zip("wb", factors, strict=True)
    }
    left = {"w": ONES, "b": ONES}
    assert not list(observed_updates.untouched(evidence("update", left, rights)))
    zeros = dict.fromkeys(left, np.zeros((2, 3)))
    (found,) = observed_updates.untouched(evidence("update", left, zeros))
    assert found.description == "never updates w, never updates b"


@pytest.mark.parametrize(("steps", "read"), [(1, False), (2, True)])
def test_a_norm_that_clips_is_read_off_where_a_second_step_can_confirm_it(steps, read):
    """Of one step any norm fits."""
    step = evidence("update", {"w": ONES}, {"w": 0.5 * ONES})
    arrays = [{**one, "gradient/w": ONES} for one in (step.observed.left, step.observed.right)]
    shown = Observed(0, step.observed.batch, step.observed.before, *arrays)
    spec = SimpleNamespace(dtype="float64", steps=steps, accumulation=1)
    assert bool(list(observed_updates.clipped(Evidence(spec, 0, observed=shown)))) is read


@pytest.mark.parametrize(("off", "holds"), [(5e-5, True), (3e-4, False)])
def test_a_decay_is_one_share_of_every_element(off, holds):
    update = 0.01 * ONES[::-1]
    decayed = update - 0.1 * ONES
    decayed[0, 0] -= off
    found = list(
        observed_updates.decoupled_decay(evidence("update", {"w": update}, {"w": decayed}, {"w": ONES}))
    )
    assert bool(found) == holds
    assert not holds or "by 0.10000" in found[0].description


WIDE = np.linspace(0.5, 1.0, 9).reshape(3, 3)


@pytest.mark.parametrize(("off", "read"), [(3e-3, True), (4e-3, True), (6.5e-3, False), (9e-3, False)])
def test_beside_another_cause_a_step_has_a_share_of_its_own_up_to_a_twentieth(off, read):
    """The updates differ by a tenth of the parameters, and one element by a few per cent of that more."""
    update = 0.01 * WIDE[::-1]
    decayed = update - 0.1 * WIDE
    decayed[0, 0] -= off
    one = evidence("update", {"w": update}, {"w": decayed}, {"w": WIDE})
    (found,) = read_steps(one, [one.observed])
    assert (found.decay is not None) is read
    assert not read or (found.decay, found.decayed) == (pytest.approx(-0.1, rel=0.05), ("w",))


def norms(evidence, *values):
    """The evidence, of steps whose gradients have these norms."""
    steps = tuple(StepNumbers(at, norm) for at, norm in enumerate(values))
    return dataclasses.replace(evidence, steps=lambda: steps)


@pytest.mark.parametrize(("off", "thought"), [(8e-4, True), (1.3e-3, False)])
def test_what_is_added_to_a_norm_changes_an_update_by_a_thousandth(off, thought):
    """1e-6 of a norm of 1e-3, at most."""
    step = norms(evidence("update", {"w": 1e-2 * ONES}, {"w": (1 - off) * 1e-2 * ONES}), 1e-3)
    assert bool(list(observed_updates.added_to_norm(step))) is thought


def enlarging(norm):
    """What the gradients are enlarged by, where their norm is so large."""
    step = norms(evidence("update", {"w": ONES}, {"w": (1 - 1e-6) * ONES}), norm)
    first, second = observed_updates.added_to_norm(step)
    grads = {"w": norm * ONES / np.linalg.norm(ONES)}
    (enlarged,) = first.on_gradients(grads, None).values()
    np.testing.assert_array_equal(second.on_suspect.on_gradients(grads, None)["w"], enlarged)
    return enlarged / grads["w"]


def test_enlarged_gradients_make_nothing_of_what_is_added_and_no_square_overflows():
    """Norms are 1e-3 at least, of which 1e-6 is a thousandth; those of a float32 whose square is finite end at 1.8e19."""
    factors = np.concatenate([enlarging(norm) for norm in (1e-3, 1.0, 1e6)])
    assert len(np.unique(factors)) == 1
    assert np.log2(factors[0, 0]).is_integer()
    assert 1e-6 / (factors[0, 0] * 1e-3) < 10 * EPS
    assert np.isfinite(np.float32(factors[0, 0] * 1e6) ** 2)


def test_the_sixteen_largest_norms_are_tried():
    step = norms(evidence("update", {"w": ONES}, {"w": (1 - 1e-6) * ONES}), *range(1, 31))
    tried = list(observed_updates.added_to_norm(step))
    assert len(tried) == 2 * 16
    grads = {"w": 15 * ONES / np.linalg.norm(ONES)}
    assert np.any(tried[0].on_gradients(grads, None)["w"] != grads["w"])
    assert np.all(tried[2].on_gradients(grads, None)["w"] == grads["w"])


@pytest.mark.parametrize(
    ("units", "single"),
    [(2, True), (6, True), (12, False)],  # eps of float32: a rate of a schedule is a product of a few numbers
)
def test_a_rate_is_in_single_precision_where_it_is_off_by_a_few_units(units, single):
    ratios = 1 + units * 2.0**-23 * np.array([1.0, -1.0, 0.5])
    steps = tuple(StepNumbers(at, 1.0, ratio) for at, ratio in enumerate(ratios))
    one = dataclasses.replace(evidence("update", {"w": ONES}, {"w": ONES}), steps=lambda: steps)
    assert bool(list(observed_updates.single_rate(one))) is single


def test_rates_that_are_one_at_every_step_are_no_rounding():
    steps = tuple(StepNumbers(at, 1.0, 1.0) for at in range(3))
    one = dataclasses.replace(evidence("update", {"w": ONES}, {"w": ONES}), steps=lambda: steps)
    assert not list(observed_updates.single_rate(one))


@pytest.mark.parametrize(("off", "holds"), [(3e-5, True), (1e-3, False)])
def test_a_running_average_is_one_combination_of_all_elements(off, holds):
    before, after = np.ones(4), np.array([0.9, 1.1, 1.3, 1.7])
    right = after + 0.1 * after - 0.2 * before
    right[0] += off
    step = evidence("buffers", {"m": after}, {"m": right})
    state = Snapshot({}, buffers={"m": before})
    step = Evidence(
        step.spec,
        0,
        observed=Observed(0, step.observed.batch, state, step.observed.left, step.observed.right),
    )
    assert bool(list(observed.running_average(step))) == holds


def test_three_numbers_decide_a_running_average_and_two_none():
    for size, holds in ((3, True), (2, False)):
        before, after = np.ones(size), np.array([0.9, 1.1, 1.3])[:size]
        made = evidence("buffers", {"m": after}, {"m": 1.1 * after - 0.2 * before})
        observed_step = Observed(
            0,
            made.observed.batch,
            Snapshot({}, buffers={"m": before}),
            made.observed.left,
            made.observed.right,
        )
        assert bool(list(observed.running_average(Evidence(made.spec, 0, observed=observed_step)))) == holds


@pytest.mark.parametrize(
    ("momentum", "words"),
    [
        (0.2, "moves 2 times as far, by another momentum"),
        (0.05, "moves 0.5 times as far, by another momentum"),
    ],
)
def test_another_momentum_is_named_by_how_far_a_running_average_moves(momentum, words):
    """0.9 of what it was and 0.1 of what is new, on the one side."""
    before, new = np.ones(4), np.array([0.9, 1.1, 1.3, 1.7])
    after, right = ((1 - share) * before + share * new for share in (0.1, momentum))
    step = evidence("buffers", {"m": after}, {"m": right})
    shown = dataclasses.replace(step.observed, before=Snapshot({}, buffers={"m": before}))
    (found,) = observed.running_average(dataclasses.replace(step, observed=shown))
    assert found.description == f"keeps another running average: m {words}"
