"""Every backend of the registry, and every mode, is held to the protocol by the kit that third parties use."""

import functools

import pytest

from lockstep import backends
from lockstep.harness.conformance import CHECKS
from lockstep.harness.conformance.backend import Case, trained, wanted
from tests.conftest import available

MODES = [name for name in backends.known() if ":" in name]


@functools.cache
def subjects(name):
    """Shared by all checks of a backend, so that each problem is compiled once."""
    return list(trained(available(name)))


def check(name, rule, dtype):
    made = [one for one in wanted(rule, subjects(name), backends.load(name)) if one.problem.dtype == dtype]
    for subject in made:
        Case(rule, subject).run()
    return made


@pytest.mark.parametrize("rule", CHECKS, ids=lambda one: one.name)
@pytest.mark.parametrize("name", backends.entries())
def test_a_backend_keeps_the_rule(name, rule):
    if not check(name, rule, "float64"):
        pytest.skip(f"{name} does not claim {', '.join(rule.needs)}")


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
