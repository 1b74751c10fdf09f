"""Every backend of the registry, and every mode, is held to the protocol by the kit that third parties use."""

import functools

import pytest

from lockstep import backends
from lockstep.harness.conformance import CHECKS
from lockstep.harness.conformance.backend import Case, trained, wanted
from lockstep.harness.conformance.problems import PROBLEMS
from tests.conftest import available

MODES = [name for name in backends.known() if ":" in name]


AT_ONCE = ("seed", "square", "modes", "surrounded", "clipped by norm")
"""On which every rule is checked at once; on the others in the sweep."""


@functools.cache
def subjects(name):
    """Shared by all checks of a backend, so that each problem is compiled once."""
    return list(trained(available(name)))


def check(name, rule, dtype, problems=tuple(PROBLEMS)):
    made = [
        one
        for one in wanted(rule, subjects(name), backends.load(name))
        if one.problem.dtype == dtype and (not rule.problems or one.problem.name in problems)
    ]
    for subject in made:
        Case(rule, subject).run()
    return made


def test_every_rule_is_checked_at_once_on_some_problem():
    assert all(set(rule.problems) & set(AT_ONCE) for rule in CHECKS if rule.problems)
    assert {one.problem.name for one in subjects("numpy")} == set(PROBLEMS)


@pytest.mark.parametrize("rule", CHECKS, ids=lambda one: one.name)
@pytest.mark.parametrize("name", backends.entries())
def test_a_backend_keeps_the_rule(name, rule):
    if not check(name, rule, "float64", AT_ONCE):
        pytest.skip(f"{name} does not claim {', '.join(rule.needs)}")


@pytest.mark.sweep
@pytest.mark.parametrize("problem", [name for name in PROBLEMS if name not in AT_ONCE])
@pytest.mark.parametrize("name", backends.entries())
def test_a_backend_keeps_every_rule_on(name, problem):
    assert [rule.name for rule in CHECKS if rule.problems and check(name, rule, "float64", (problem,))]


@pytest.mark.sweep
@pytest.mark.parametrize("rule", [one for one in CHECKS if one.problems], ids=lambda one: one.name)
@pytest.mark.parametrize("name", backends.entries())
def test_a_backend_keeps_the_rule_in_float32(name, rule):
    if not check(name, rule, "float32"):
        pytest.skip(f"{name} does not claim {', '.join(rule.needs)}")


@pytest.mark.sweep
@pytest.mark.parametrize("rule", CHECKS, ids=lambda one: one.name)
@pytest.mark.parametrize("name", MODES)
@pytest.mark.usefixtures("full_precision")
def test_a_mode_keeps_the_rule(name, rule):
    if not check(name, rule, "float64"):
        pytest.skip(f"{name} does not claim {', '.join(rule.needs)}")
