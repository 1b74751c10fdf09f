"""Who is wrong: the third that may say, those that cannot, and what is said where nobody can."""

import numpy as np
import pytest

import lockstep
from lockstep import Verdict
from lockstep.backends.numpy_vjp.backend import NumPyBackend
from lockstep.backends.problem import Layer
from lockstep.harness.core.ledger import Ledger, Row
from lockstep.harness.diagnose import diagnosis
from lockstep.harness.problems.initial import draw
from lockstep.harness.verification import adopted
from tests.conftest import square_problem
from tests.judge.test_adopted_bounds import bent
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
    assert "its inputs agree; " in found.sentence


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


def test_of_a_module_inside_another_the_other_is_not_what_hides_its_inputs():
    """Rows of torch modules in the order in which they return: the parts of a block come before the block."""

    def row(name, reason=""):
        return Row(0, name, Verdict.SKIPPED if reason else Verdict.AGREE, reason)

    shown, *hidden = "forward/embed", "forward/block.norm", "forward/block.gate", "forward/head.norm"
    rows = (row(shown), *(row(one, diagnosis.UNSHOWN) for one in hidden))
    block, loss = row("forward/block"), row("loss")
    assert diagnosis._unshown(Ledger((*rows, block)), block) == ["head.norm"]
    assert diagnosis._unshown(Ledger((*rows, loss)), loss) == ["block.norm", "block.gate", "head.norm"]
    assert diagnosis._unshown(Ledger((*rows, block, loss)), loss) == []


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_a_leaf_of_rounding_keeps_nothing_from_agreeing_of_whatever_size_the_rest_is(scale):
    """A bias before a batch norm, whose gradient is rounding; targets and losses are large or small."""
    model = (Layer("linear", size=4), Layer("batch_norm"), Layer("linear", size=2))
    problem = square_problem(model=model, initial=draw(model, (3,), seed=1), epochs=3)
    problem = problem.replace(y=scale * np.asarray(problem.y))
    found = lockstep.diagnose(problem, RIGHT, others=())
    assert found.verdict is Verdict.AGREE, found.sentence


def test_what_could_not_be_judged_is_shown_from_its_first_stage_on():
    """A gradient of nothing but rounding, at a rate under which it moves no parameter."""
    sides = [bent("float64", 1.42, 0.5, rate=1e-20) for _ in range(2)]
    row = [(np.full((1, 1), 0.5), np.full((1, 1), 0.25))]
    (case,) = adopted.verify(sides, row, mapping={"w": "w"}, diagnose="all").cases
    (found,) = case.diagnoses
    assert (found.verdict, found.kind) == (Verdict.INCONCLUSIVE, diagnosis.Kind.UNJUDGED), found.sentence
    undecided = [one for one in found.ledger.rows if one.verdict is Verdict.INCONCLUSIVE]
    assert found.first == undecided[0]
    assert found.first.name == "gradient/w"
