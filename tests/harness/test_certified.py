"""verify with the true trajectory, and with a diagnosis of what parts."""

import numpy as np
import pytest

import lockstep
from lockstep import backends
from lockstep.backends.errors import BackendUnavailableError, ProblemError
from lockstep.backends.numpy_vjp.backend import NumPyBackend, NumPyTrainer
from lockstep.backends.problem import Optimizer
from lockstep.harness.core.verdict import Verdict
from lockstep.harness.numerics.certified import own_errors, truth_of
from lockstep.harness.problems import find
from lockstep.harness.report import markdown
from lockstep.harness.report.document import to_document


class Faulty(NumPyBackend):
    """NumPy under another name, with a fault in its problem or its steps."""

    name = "faulty"

    def __init__(self, trainer):
        self._trainer = trainer

    def trainer(self, problem):
        return self._trainer(problem)


def rate_off_by(change):
    def trainer(problem):
        rate = problem.optimizer.args["learning_rate"] * (1 + change)
        return NumPyTrainer(problem.replace(optimizer=Optimizer("sgd", learning_rate=rate)))

    return Faulty(trainer)


def verified(fault, **options):
    return lockstep.verify("seed", backends=["numpy", fault], dtypes=["float64"], **options)


@pytest.fixture(scope="module")
def certified():
    return lockstep.verify("seed", backends=["numpy", "torch"], certify=True)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_right_backends_are_within_an_ulp_of_the_truth_in_every_loss(certified, dtype):
    """What is near zero, the bias, cancels hundreds of times its size; a loss does not."""
    case = next(case for case in certified.cases if case.problem.dtype == dtype)
    assert case.certified.bits >= 64
    assert case.certified.reason == ""
    assert set(case.certified.errors) == {"numpy", "torch"}
    for errors in case.certified.errors.values():
        assert errors.losses.shape == (10,)
        assert 0 < errors.losses.max() < 1
        assert errors.parameters["0.linear/w"].shape == (2, 1)
        assert errors.parameters["0.linear/w"].max() < 8


def test_a_wrong_backend_is_far_from_the_truth_and_the_right_one_is_not():
    case = verified(rate_off_by(1e-12), certify=True).cases[0]
    assert case.certified.errors["numpy"].losses.max() < 1
    assert case.certified.errors["faulty"].losses.max() > 100


def test_a_run_of_other_shapes_has_no_own_error(seed):
    short = lockstep.verify(seed.replace(epochs=9), backends=["numpy"], dtypes=["float64"]).runs
    assert own_errors(truth_of(seed), short).errors == {}


def test_a_run_that_is_not_finite_has_an_error_that_is_not(seed):
    diverging = seed.replace(optimizer=Optimizer("sgd", learning_rate=1e3))
    runs = lockstep.verify(diverging, backends=["numpy"], dtypes=["float64"], epochs=10).runs
    runs[0].trace.losses[-1] = np.nan
    losses = own_errors(truth_of(diverging.replace(epochs=10)), runs).errors["numpy"].losses
    assert np.isnan(losses[-1])
    assert np.isfinite(losses[0])


def test_why_there_is_no_truth_is_told(seed, monkeypatch):
    def absent(name):
        raise BackendUnavailableError("backend 'exact' cannot run here", "no module flint", "pip install it")

    monkeypatch.setattr(backends, "load", absent)
    assert truth_of(seed) == "backend 'exact' cannot run here: no module flint"
    assert own_errors(truth_of(seed), []).reason.startswith("backend 'exact'")


def test_a_truth_that_would_take_too_long_is_refused_beforehand():
    assert "it would take about" in truth_of(find("tall"))


def test_exact_itself_is_inconclusive_where_it_cannot_tell():
    """Attention does not depend on its keys' bias: Lion takes the sign of a gradient that is 0 in truth."""
    equal = find("attention").replace(optimizer=Optimizer("lion", learning_rate=0.01), epochs=1)
    run = lockstep.verify(equal, backends=["exact", "numpy"], dtypes=["float64"]).runs[0]
    assert run.verdict is Verdict.INCONCLUSIVE
    assert "numbers are equal" in run.reason


def test_what_parts_is_diagnosed_and_what_agrees_is_not():
    differing = verified(rate_off_by(1e-3), diagnose="differing")
    (found,) = differing.cases[0].diagnoses
    assert found.verdict is Verdict.DIFFER
    assert found.backend == "faulty"
    assert found.sentence in differing.census()
    assert verified(rate_off_by(0), diagnose="differing").cases[0].diagnoses == ()


def test_a_stage_that_parts_is_reported_and_no_difference_where_the_whole_runs_agree():
    """A hundredth of the spread after ten epochs, and in one update beyond what a product can round."""
    assert verified(rate_off_by(1e-14)).verdict is Verdict.AGREE
    result = verified(rate_off_by(1e-14), diagnose="all")
    assert result.verdict is Verdict.AGREE
    assert "the whole runs agree within their tolerance" in result.cases[0].diagnoses[0].sentence
    assert "in the update of" in result.cases[0].diagnoses[0].sentence


def test_an_unknown_choice_of_cases_is_refused():
    with pytest.raises(ProblemError, match="unknown cases to diagnose"):
        verified(rate_off_by(0), diagnose="some")


def test_the_report_has_the_own_errors_and_the_first_divergence():
    content = to_document(verified(rate_off_by(1e-3), certify=True, diagnose="differing"), {})
    text = markdown.render(content)
    assert "### Own errors" in text
    assert "| faulty |" in text
    assert "### First divergence of faulty from numpy" in text
    assert content["cases"][0]["diagnoses"][0]["first"]["stage"] in text
    assert len(content["cases"][0]["limits"]) == 10
