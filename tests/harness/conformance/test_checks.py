"""The kit: every check is passed by what keeps its rule and failed, with words, by what does not."""

import sys

import pytest

from lockstep.backends.errors import LockstepError
from lockstep.backends.numpy_vjp.backend import NumPyBackend
from lockstep.backends.problem import DTYPES
from lockstep.backends.protocol import CAPABILITIES, Unsupported
from lockstep.harness.conformance import CHECKS, Check, Nonconformity, cases, check_backend
from lockstep.harness.conformance.problems import PROBLEMS
from lockstep.harness.core.verdict import Verdict
from tests.harness.conformance.faults import FAULTS, backend, trainer

BY_NAME = {one.name: one for one in CHECKS}


def test_what_keeps_every_rule_passes_every_check():
    found = check_backend(backend())
    assert found.verdict is Verdict.AGREE, found.census()
    assert found.failed == ()
    assert all(one.checked for one in found.outcomes)
    assert (found.backend, set(found.capabilities)) == (
        "faulty",
        set(CAPABILITIES - {"widen"}),
    )  # of adopted code
    assert len(found.trained) == len(PROBLEMS) * len(DTYPES)
    assert found.refused == ()


def test_every_check_has_a_planted_fault():
    assert {check for check, _ in FAULTS.values()} == set(BY_NAME)
    assert len(BY_NAME) == len(CHECKS)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found_by_its_check(fault):
    name, make = FAULTS[fault]
    found = check_backend(make(), [BY_NAME[name]])
    assert found.verdict is Verdict.DIFFER
    assert found.failed == (name,)
    content = found.census()
    assert name in content
    assert BY_NAME[name].mend in content


def test_every_check_says_why_and_what_to_do():
    for one in CHECKS:
        assert one.name == one.name.lower() or one.name == "given"
        assert len(one.reason) > 20
        assert len(one.mend) > 20


def test_what_a_backend_raises_is_a_finding():
    def broken(self, state, batch):
        raise RuntimeError("the device is gone")

    found = check_backend(trainer(step=broken), [BY_NAME["halves"]])
    assert found.failed == ("halves",)
    assert "RuntimeError: the device is gone" in found.census()


def test_code_that_ends_the_process_is_a_finding():
    def broken(self, state, batch):
        sys.exit(0)

    found = check_backend(trainer(step=broken), [BY_NAME["halves"]])
    assert found.failed == ("halves",)
    assert "SystemExit: 0" in found.census()
    (case, *_) = cases(trainer(step=broken), [BY_NAME["halves"]])
    with pytest.raises(Nonconformity, match="SystemExit"):
        case.run()


def test_a_supports_that_raises_is_a_finding():
    def broken(self, problem):
        raise KeyError("layer")

    found = check_backend(backend(supports=broken))
    assert "supports" in found.failed
    assert all("raises KeyError" in reason for _, reason in found.refused)


def test_what_is_not_claimed_is_skipped_and_said():
    found = check_backend(trainer(capabilities=frozenset()), [BY_NAME["fit"], BY_NAME["start"]])
    fit, start = found.outcomes
    assert (fit.verdict, fit.skipped) == (Verdict.SKIPPED, "not claimed: fit")
    assert start.verdict is Verdict.AGREE
    assert found.verdict is Verdict.AGREE


def test_a_problem_that_is_refused_is_not_checked_and_is_told():
    def supports(self, problem):
        return Unsupported("one row at a time") if problem.name == "square" else None

    found = check_backend(backend(supports=supports), [BY_NAME["start"]])
    assert {where for where, reason in found.refused if reason == "one row at a time"} == {
        "square float32",
        "square float64",
    }
    assert not any(where.startswith("square") for where in found.outcomes[0].checked)


def test_nothing_checked_is_not_conformance():
    assert check_backend(backend(), []).verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize("nothing", [None, "numpy", NumPyBackend, 3])
def test_what_is_no_backend_is_refused(nothing):
    with pytest.raises(LockstepError, match="is no object with a method 'supports'"):
        check_backend(nothing)


def test_cases_are_one_test_each_and_fail_as_assertions():
    name, make = FAULTS["lends"]
    found = list(cases(make(), [BY_NAME[name]]))
    assert len({one.id for one in found}) == len(found) == 10
    assert found[0].id == "hands out copies-seed float64"
    with pytest.raises(AssertionError, match="read again after what was read was changed") as failure:
        found[0].run()
    assert isinstance(failure.value, Nonconformity)


def test_a_check_of_ones_own():
    def odd(subject):
        raise AssertionError("odd")

    found = check_backend(backend(), [Check("odd", "because", "do not", odd, problems=("seed",))])
    assert found.failed == ("odd",)
