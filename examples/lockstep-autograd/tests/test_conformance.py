"""What an author's own tests of a backend are: the protocol's rules, some of the catalogue, and that a fault is found."""

import pytest

import harness
from harness.conformance import CHECKS, cases, check_backend
from lockstep_autograd import optimizers
from lockstep_autograd.backend import AutogradBackend

OTHERS = ["numpy", "torch", "jax"]
CASES = list(cases(AutogradBackend()))


@pytest.mark.parametrize("case", CASES, ids=[case.id for case in CASES])
def test_a_rule_of_the_protocol(case):
    case.run()


def test_only_the_twins_are_not_checked():
    """All but the reference's own capability, on every problem that the kit has."""
    assert {check.name for check in CHECKS} - {case.check.name for case in CASES} == {"twins"}
    assert check_backend(AutogradBackend(), checks=[]).refused == ()


@pytest.mark.parametrize("name", ["seed", "adamw", "softmax", "batch-norm", "residual-mlp", "accumulated"])
def test_it_agrees_with_the_others(name):
    result = harness.verify(name, backends=[*OTHERS, AutogradBackend()])
    assert result.verdict is harness.Verdict.AGREE, result.census()
    assert {run.verdict for run in result.runs} == {harness.Verdict.AGREE}


def test_what_it_has_not_is_refused_with_the_reason():
    (run,) = harness.verify("convolution", backends=[AutogradBackend()], dtypes=["float64"]).runs
    assert (run.verdict, run.reason) == (harness.Verdict.SKIPPED, "it has no layer 'conv2d'")


def test_a_fault_is_found_and_named(monkeypatch):
    """Adam whose averages are taken as if their start at 0 were long past."""
    adam = optimizers.OPTIMIZERS["adam"]
    monkeypatch.setitem(
        optimizers.OPTIMIZERS, "adam", lambda a, g, kept, t, rate: adam(a, g, kept, 10**6, rate)
    )
    assert check_backend(AutogradBackend()).failed == ("agrees",)
    found = harness.diagnose("adam", AutogradBackend(), others=["torch"])
    assert found.explanation.does == "leaves both bias corrections out"
