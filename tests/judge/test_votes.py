"""Who is wrong: the third that may say, those that cannot, and what is said where nobody can."""

import pytest

import lockstep
from lockstep.backends.numpy_vjp.backend import NumPyBackend
from tests.conftest import square_problem
from tests.meta.faults import Broken
from tests.meta.stepwise import StepwiseTrainer


class Doubled(StepwiseTrainer):
    """Gradients that are twice as large."""

    def apply(self, state, grads):
        return super().apply(state, {name: 2 * one for name, one in grads.items()})


class Tripled(StepwiseTrainer):
    def apply(self, state, grads):
        return super().apply(state, {name: 3 * one for name, one in grads.items()})


class Lost(StepwiseTrainer):
    """Its updates are not finite: it agrees with nobody."""

    def apply(self, state, grads):
        return super().apply(state, {name: one * float("nan") for name, one in grads.items()})


class Failing(StepwiseTrainer):
    def apply(self, state, grads):
        raise RuntimeError("it does not run")


class Unobserved(StepwiseTrainer):
    """Its forward pass and its clipping cannot be looked at."""

    capabilities = StepwiseTrainer.capabilities - {"stages"}


class ForwardOff(StepwiseTrainer):
    def observe(self, state, batch, wanted, inject=()):
        stages = dict(super().observe(state, batch, wanted, *([inject] if inject else [])))
        return {name: 2 * one if name.startswith("forward/") else one for name, one in stages.items()}


def named(name, trainer):
    backend = Broken(trainer)
    backend.name = name
    return backend


RIGHT = named("right", StepwiseTrainer)


@pytest.mark.parametrize(
    ("others", "name", "reason"),
    [
        ((RIGHT,), "broken", "right agrees with numpy"),
        ((named("same fault", Doubled),), "numpy", "same fault agrees with broken"),
        ((named("another fault", Tripled),), "", "another fault agrees with neither"),
        ((named("failing", Failing), RIGHT), "broken", "right agrees with numpy"),
        ((named("failing", Failing),), "", "no third implementation"),
        ((), "", "no third implementation"),
        ((named("lost", Lost), RIGHT), "", "lost agrees with neither"),
    ],
)
def test_the_first_third_that_can_say_decides(others, name, reason):
    found = lockstep.diagnose(square_problem(), named("broken", Doubled), others=others)
    assert found.culprit.name == name
    assert reason in found.culprit.reason


def test_a_third_that_does_not_show_the_stage_is_passed_over():
    others = [named("unobserved", Unobserved), RIGHT]
    found = lockstep.diagnose(square_problem(), named("broken", ForwardOff), others=others)
    assert found.first.kind == "forward", found.sentence
    assert (found.culprit.name, found.culprit.reason) == ("broken", "right agrees with numpy")
    found = lockstep.diagnose(square_problem(), named("broken", ForwardOff), others=others[:1])
    assert found.culprit.name == ""


def test_a_reference_that_is_wrong_is_blamed_and_explained():
    found = lockstep.diagnose(square_problem(), NumPyBackend(), named("broken", Doubled), others=[RIGHT])
    assert found.culprit.name == "broken"
    assert found.explanation.name == "constant ratio"
    assert "broken multiplies its gradients by 2" in found.sentence
