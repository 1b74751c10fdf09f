"""What an author's own tests of a backend are: the protocol's rules, some of the catalogue, and that a fault is found."""

import autograd.numpy as anp
import numpy as np
import pytest
from autograd import grad

import lockstep
from lockstep.backends.protocol import Unsupported
from lockstep.harness.conformance import CHECKS, cases, check_backend
from lockstep.harness.problems import find
from lockstep_autograd import optimizers
from lockstep_autograd.backend import AutogradBackend

CASES = list(cases(AutogradBackend()))


@pytest.mark.parametrize("case", CASES, ids=[case.id for case in CASES])
def test_a_rule_of_the_protocol(case):
    case.run()


def test_all_but_the_twins_is_checked_on_every_problem():
    assert {check.name for check in CHECKS} - {case.check.name for case in CASES} == {"twins"}
    assert check_backend(AutogradBackend(), checks=[]).refused == ()


@pytest.mark.parametrize(
    "name", ["seed", *(pytest.param(one, marks=pytest.mark.sweep) for one in ("batch-norm", "accumulated"))]
)
def test_it_agrees_with_the_others(name):
    result = lockstep.verify(name, backends=["numpy", "torch", "jax", AutogradBackend()])
    assert result.verdict is lockstep.Verdict.AGREE, result.census()
    assert len(result.runs) == 8
    assert {run.verdict for run in result.runs} == {lockstep.Verdict.AGREE}


def test_what_it_has_not_is_refused_with_the_reason():
    assert AutogradBackend().supports(find("attention")) == Unsupported("it has no layer 'attention'")


def test_a_fault_is_found_and_named(monkeypatch):
    """Adam whose averages are taken as if their start at 0 were long past."""
    adam = optimizers.OPTIMIZERS["adam"]
    monkeypatch.setitem(
        optimizers.OPTIMIZERS, "adam", lambda a, g, kept, t, rate: adam(a, g, kept, 10**6, rate)
    )
    assert check_backend(AutogradBackend()).failed == ("agrees",)
    found = lockstep.diagnose("adam", AutogradBackend(), others=["numpy"])
    assert found.explanation.description == "leaves both bias corrections out"


@pytest.mark.parametrize("avoided", [anp.mean, anp.var, anp.max, lambda x: anp.sum(anp.where(x > 0, x, 0.0))])
def test_why_some_functions_are_avoided(avoided):
    """Once this fails, they need not be any more."""
    x = np.array([0.5, -1.0], np.float32)
    assert avoided(x).dtype == np.float32
    assert grad(avoided)(x).dtype == np.float64
