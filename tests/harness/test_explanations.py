"""Explanations: each is confirmed of whoever makes the mistake, and none of who makes another."""

import dataclasses
import functools
import itertools

import numpy as np
import pytest

from lockstep import backends
from lockstep.backends.numpy_vjp.backend import NumPyBackend, NumPyTrainer
from lockstep.backends.problem import Batching, Clip, Layer, Loss, Optimizer, Penalty, Problem, Schedule
from lockstep.backends.protocol import LOSSES_ONLY
from lockstep.harness import explanations as table
from lockstep.harness.diagnose.diagnosis import diagnose
from lockstep.harness.diagnose.explain import explain
from lockstep.harness.explanations import EXPLANATIONS
from lockstep.harness.explanations.changes import (
    every_gradient,
    never_updated,
    plus_shares,
    some_gradients,
    swapped,
    times,
    updates_times,
)
from lockstep.harness.explanations.evidence import Evidence
from lockstep.harness.explanations.explanation import Explanation
from lockstep.harness.problems.initial import draw
from lockstep.harness.runs.altered import Altered
from lockstep.harness.runs.free_run import train
from lockstep.harness.runs.intervention import Intervention
from lockstep.harness.runs.observed import Observed
from lockstep.harness.runs.stages import gradients, stages_of
from lockstep.harness.runs.trajectory import trajectory
from tests.conftest import square_problem
from tests.meta.faults import Broken, LearningRateOff, TransposedSquareWeight

EVERYTHING = square_problem(
    batching=Batching(size=5, shuffle=1),
    schedule=Schedule("exponential", factor=0.9),
    penalties=(Penalty("l1", weight=0.01),),
    clip=Clip("norm", limit=0.5),
    accumulation=2,
    optimizer=Optimizer("sgd", learning_rate=0.05, momentum=0.9, weight_decay=0.1, nesterov=True),
)


def square(name, **args):
    return square_problem(optimizer=Optimizer(name, learning_rate=0.01, **args))


PROBLEMS = [
    EVERYTHING,
    square("sgd", momentum=0.9),
    square("sgd", momentum=0.9, dampening=0.5).replace(schedule=Schedule("step", steps=3, factor=0.1)),
    square("adam", epsilon=1e-3, weight_decay=0.1).replace(
        schedule=Schedule("piecewise", boundaries=[2, 4], factors=[0.5, 0.1])
    ),
    square("adam", epsilon=1e-3, amsgrad=True),
    square("adamw", epsilon=1e-4, epsilon_root=1e-3),
    square("rmsprop", epsilon=1e-3, momentum=0.9, centered=True).replace(
        schedule=Schedule("exponential", factor=0.9)
    ),
    square("radam", beta2=0.9, epsilon=1e-3),
    square("adagrad").replace(
        loss=Loss("half_squared_error", reduction="sum"), clip=Clip("value", limit=0.1)
    ),
]


class Mistaken(NumPyBackend):
    """Trains under an intervention, made for each problem anew; another problem with its own batches."""

    name = "mistaken"

    def __init__(self, intervene):
        self._intervene = intervene

    def trainer(self, problem):
        change = self._intervene(problem)
        other = change.spec or problem
        return Altered(NumPyTrainer(other), dataclasses.replace(change, on_run=lambda asked: other.batches()))


def proposed(explanation, place):
    """The intervention that an explanation proposes in a place, from the formula alone."""

    def intervene(problem):
        transposed = {name: np.asarray(value).T for name, value in problem.initial_parameters().items()}
        initial = {
            name: value for name, value in transposed.items() if value.shape == problem.initial[name].shape
        }
        return next(itertools.islice(explanation.propose(Evidence(problem, 0, initial)), place, None))

    return intervene


def observe(spec, reference, other, step):
    """One step of both from the reference's state, the reference's gradients into both optimizers."""
    state = reference.init()
    *earlier, batch = itertools.islice(spec.batches(), step + 1)
    for one in earlier:
        state, _ = reference.step(state, one)
    before = reference.read(state)
    left = stages_of(reference, before, batch)
    return Observed(step, batch, before, left, stages_of(other, before, batch, gradients(left)))


@functools.cache
def numpy():
    return backends.load("numpy")


def explained(problem, suspect, step=None, **settings):
    """The explanation of a suspect; from what is observed in a step, where one is given."""
    trainer = suspect.trainer(problem)
    initial = trainer.read(trainer.init()).parameters
    observed = None if step is None else observe(problem, numpy().trainer(problem), trainer, step)
    return explain(numpy(), suspect, Evidence(problem, step or 0, initial, observed), **settings)


def cases():
    """Every proposal of every formula on every problem; all but the first of each explanation are left to the sweep."""
    known = set()
    for number, problem in enumerate(PROBLEMS):
        initial = {"0.linear/w": problem.initial_parameters()["0.linear/w"].T}
        for explanation in EXPLANATIONS:
            for place, one in enumerate(explanation.propose(Evidence(problem, 0, initial))):
                marks = [pytest.mark.sweep] if explanation.name in known else []
                known.add(explanation.name)
                name = f"{number}-{one.description}"
                yield pytest.param(problem, explanation, place, one.description, id=name, marks=marks)


CASES = list(cases())

ALIKE = {
    "counts its updates from one too many": {"is one step of the schedule ahead"},
    "multiplies its gradients by 2, as many as the outputs": {
        "sums the accumulated gradients instead of averaging them"
    },
    "multiplies its gradients by 24, as many as all elements": {
        "multiplies its gradients by 12, as many as the rows of a batch"
    },
    "follows the conventions of torch": {"leaves the momentum out", "has an epsilon of 1e-08"},
    "follows the conventions of optax": {
        "follows the conventions of torch",
        "leaves the momentum out",
        "has an epsilon of 1e-08",
        "adds epsilon to the corrected root",
        "trains with amsgrad_corrected (AMSGrad takes the largest v̂ instead)",
    },
}
"""Mistakes that train the same on some of these problems -> what is offered for them, which is more specific."""

WITHOUT_EFFECT = (
    "trains with first_damped",
    "trains with amsgrad",
    "trains without amsgrad",
    "follows the conventions of optax",
)
"""Switches that change nothing on some of these problems: the squares only grow, or nothing is damped."""


@pytest.mark.parametrize(("problem", "explanation", "place", "description"), CASES)
def test_a_mistake_is_explained_by_itself(problem, explanation, place, description):
    suspect = Mistaken(proposed(explanation, place))
    found = explained(problem, suspect)
    if found is None:
        assert description.startswith(WITHOUT_EFFECT)
        ours, theirs = (
            trajectory(train(problem, one)) for one in (NumPyTrainer(problem), suspect.trainer(problem))
        )
        for name, value in ours.items():
            np.testing.assert_allclose(theirs[name], value, rtol=1e-13, atol=1e-14)
    else:
        assert found.description == description or found.description in ALIKE[description]


class Bare:
    """A run of which nothing but its batches is known: a problem that is not said to be one."""

    def __init__(self, problem):
        self.problem = problem

    def __getattr__(self, name):
        return getattr(self.problem, name)

    def until(self, steps):
        return Bare(self.problem.until(steps))

    def replace(self, **changes):
        return Bare(self.problem.replace(**changes))


def problem_of(spec):
    return spec.problem if isinstance(spec, Bare) else spec


class Trains(NumPyBackend):
    """Trains a run of either kind, under an intervention."""

    def __init__(self, name="numpy", change=None):
        self.name, self._change = name, change or Intervention()

    def supports(self, spec):
        return super().supports(problem_of(spec))

    def trainer(self, spec):
        return Altered(NumPyTrainer(problem_of(self._change.spec or spec)), self._change)


SQUARE = square_problem()
MOMENTUM = square("sgd", momentum=0.9)
ADAM = square("adam")
NORMED = (Layer("linear", size=4), Layer("batch_norm"), Layer("linear", size=2))
TWINS = (Layer("linear", size=3), Layer("tanh"), Layer("linear", size=3), Layer("dot", size=2))
"""Two weights of one shape."""


def with_model(model):
    return square_problem(model=model, initial=draw(model, (3,), seed=1))


def unbiased(before, after):
    """Of variances of twelve numbers: (1 - m) b + m n / (n - 1) v for the same without n / (n - 1)."""
    moved = {
        name: value - (value - 0.9 * before.buffers[name]) / 12 if name.endswith("variance") else value
        for name, value in after.buffers.items()
    }
    return dataclasses.replace(after, buffers=moved)


OBSERVED = {
    "multiplies the loss by 12, as many as the rows of a batch": (
        table.CONSTANT_RATIO,
        MOMENTUM,
        Intervention(on_gradients=every_gradient(times(12.0)), on_loss=lambda loss: 12 * loss),
    ),
    "multiplies the loss by 0.333333": (
        table.CONSTANT_RATIO,
        MOMENTUM,
        Intervention(on_gradients=every_gradient(times(1 / 3)), on_loss=lambda loss: loss / 3),
    ),
    "multiplies the loss that it reports by 1.00000001, not the one that it trains": (
        table.REPORTED_LOSS,
        ADAM,
        Intervention(on_loss=lambda loss: loss * (1 + 1e-8)),
    ),
    "multiplies its gradients by 1.5": (
        table.CONSTANT_RATIO,
        MOMENTUM,
        Intervention(on_gradients=every_gradient(times(1.5))),
    ),
    "ascends: its gradients have the wrong sign": (
        table.SIGN,
        MOMENTUM,
        Intervention(on_gradients=every_gradient(times(-1.0))),
    ),
    "multiplies its gradients by -3": (
        table.SIGN,
        MOMENTUM,
        Intervention(on_gradients=every_gradient(times(-3.0))),
    ),
    "multiplies the gradient of 0.linear/b by 1.01, gives 2.add/b no gradient": (
        table.CONSTANT_RATIO,
        MOMENTUM,
        Intervention(on_gradients=some_gradients({"0.linear/b": times(1.01), "2.add/b": times(0.0)})),
    ),
    "gives 0.linear/b no gradient": (
        table.NO_GRADIENT,
        MOMENTUM.replace(penalties=(Penalty("l2", weight=0.1, parameters="all"),)),
        Intervention(on_gradients=some_gradients({"0.linear/b": times(0.0)})),
    ),
    "transposes the gradient of 0.linear/w": (
        table.TRANSPOSED_GRADIENT,
        ADAM,
        Intervention(on_gradients=some_gradients({"0.linear/w": np.transpose})),
    ),
    "exchanges the gradients of 0.linear/w and 2.linear/w": (
        table.SWAPPED_GRADIENTS,
        with_model(TWINS),
        Intervention(on_gradients=swapped("0.linear/w", "2.linear/w")),
    ),
    "updates 1.1 times as far: its learning rate is 1.1 times the reference's": (
        table.LEARNING_RATE,
        ADAM,
        Intervention(on_update=updates_times(dict.fromkeys(SQUARE.initial, 1.1))),
    ),
    "updates 1.00000001 times as far: its learning rate is 1.00000001 times the reference's": (
        table.LEARNING_RATE,
        MOMENTUM,
        Intervention(on_update=updates_times(dict.fromkeys(SQUARE.initial, 1 + 1e-8))),
    ),
    "updates 0.linear/w 2 times as far, never updates 1.dot/w": (
        table.CONSTANT_RATIO,
        ADAM,
        Intervention(on_update=updates_times({"0.linear/w": 2.0, "1.dot/w": 0.0})),
    ),
    "never updates 2.add/b": (
        table.NEVER_UPDATED,
        MOMENTUM,
        Intervention(on_update=never_updated(["2.add/b"])),
    ),
    "decays the weights by 0.01 of themselves more at each update": (
        table.WEIGHT_DECAY,
        ADAM,
        Intervention(on_update=plus_shares(dict.fromkeys(SQUARE.initial, -0.01))),
    ),
    "decays the weights of 1.dot/w by 0.001 of themselves less at each update": (
        table.WEIGHT_DECAY,
        MOMENTUM,
        Intervention(on_update=plus_shares({"1.dot/w": 0.001})),
    ),
    "adds 0.01 times the parameters to the gradient": (
        table.WEIGHT_DECAY,
        square("adam", weight_decay=0.0),
        Intervention(
            spec=square("adam", weight_decay=0.01, decoupled=False),
        ),
    ),
    "damps the gradient by 0.5, but not at the first step": (
        table.DAMPENING,
        square("sgd", momentum=0.9),
        Intervention(spec=square("sgd", momentum=0.9, dampening=0.5)),
    ),
    "keeps another running average: 1.batch_norm/variance divides the squares of 12 numbers by n, not by n − 1 (a known convention: "
    "torch keeps the variance of n − 1, Flax and Haiku that of n)": (
        table.RUNNING_AVERAGE,
        with_model(NORMED),
        Intervention(on_buffers=unbiased),
    ),
    "counts its updates from one too many": (table.UPDATE_COUNT, ADAM, Intervention(ahead=1)),
}
"""What is read off a step -> the row of the table that says so, what is trained, and how the mistake is made."""


def observed_in(description):
    """The step that is looked at: what spares the first step shows in the second, whose optimizer's state is another."""
    return 1 if "not at the first step" in description else 0


@pytest.mark.parametrize("kind", [Problem.replace, Bare], ids=["problem", "bare"])
@pytest.mark.parametrize("description", OBSERVED, ids=str)
def test_a_mistake_is_read_off_what_is_observed_of_whatever_is_trained(description, kind):
    """With a formula and without one: with one its own rows may say the same in other words."""
    explanation, problem, change = OBSERVED[description]
    witness, suspect, spec = Trains(), Trains("suspect", change), kind(problem)
    sides = witness.trainer(spec), suspect.trainer(spec)
    step = observed_in(description)
    found = explain(witness, suspect, Evidence(spec, step, observed=observe(spec, *sides, step)))
    assert found is not None
    assert found.name == explanation.name, found
    if kind is Bare:
        assert found.description == description
    elsewhere = tuple(one for one in EXPLANATIONS if one is not explanation)
    evidence = Evidence(spec, step, observed=observe(spec, *sides, step))
    other = explain(witness, suspect, evidence, explanations=elsewhere)
    assert other is None or other.name != explanation.name


def test_every_explanation_has_a_name_a_description_and_a_test_that_confirms_it():
    assert len({one.name for one in EXPLANATIONS}) == len(EXPLANATIONS)
    assert all(one.name and len(one.description.split()) > 2 for one in EXPLANATIONS)
    tried = {case.values[1].name for case in CASES} | {one.name for one, _, _ in OBSERVED.values()}
    assert tried == {one.name for one in EXPLANATIONS}


def faster(factor):
    """A trainer whose learning rate is off by a factor, whatever its optimizer is."""

    def intervene(problem):
        args = problem.optimizer.args
        rate = factor * args["learning_rate"]
        return Intervention(
            spec=problem.replace(
                optimizer=Optimizer(problem.optimizer.name, **{**args, "learning_rate": rate})
            )
        )

    return Mistaken(intervene)


@pytest.mark.parametrize("problem", [SQUARE, MOMENTUM, ADAM, EVERYTHING])
@pytest.mark.parametrize("factor", [1.1, 1 - 1e-9, 1e-3])
def test_a_diagnosis_of_the_catalogue_names_a_wrong_learning_rate(problem, factor):
    found = diagnose(problem, faster(factor), others=())
    assert found.explanation.name == "learning rate"
    assert f"its learning rate is {factor:.10g} times the reference's" in found.sentence


def test_nothing_is_offered_where_nothing_differs():
    assert explained(square_problem(), Broken(NumPyTrainer), 0) is None


def test_nothing_is_offered_for_what_is_no_known_mistake():
    """One element of one gradient is off."""

    def one_element(grad):
        changed = grad.copy()
        changed.flat[0] *= 1.5
        return changed

    change = Intervention(on_gradients=some_gradients({"0.linear/w": one_element}))
    assert explained(square_problem(), Mistaken(lambda problem: change), 0) is None


def test_what_only_observing_shows_is_not_offered_without():
    assert explained(square_problem(), Broken(LearningRateOff)) is None
    assert explained(square_problem(), Broken(LearningRateOff), 0).name == "learning rate"


def test_nothing_is_confirmed_that_does_not_train_the_same():
    """The right explanation, off by one part in 10¹⁰, is not offered."""
    near, right = (
        Explanation(name, "scales", lambda evidence, factor=factor: iter([_scaled(factor)]))
        for name, factor in (("near", 1 + 2e-10), ("right", 1 + 1e-10))
    )
    suspect = Broken(LearningRateOff)
    assert explained(square_problem(), suspect, explanations=(near,)) is None
    assert explained(square_problem(), suspect, explanations=(near, right)).name == "right"


def _scaled(factor):
    return Intervention("", on_gradients=every_gradient(times(factor)))


def test_the_first_that_is_confirmed_is_offered():
    rows = [
        Explanation(name, "scales", lambda evidence: iter([_scaled(1 + 1e-10)])) for name in ("one", "two")
    ]
    for order in (rows, rows[::-1]):
        assert explained(square_problem(), Broken(LearningRateOff), explanations=order).name == order[0].name


def test_an_altered_problem_that_is_not_valid_is_left_out():
    """Accumulation over all batches of the only epoch: without the short last one there would be no update."""
    problem = square_problem(batching=Batching(size=5), accumulation=3, epochs=1)
    assert list(table.LAST_BATCH.propose(Evidence(problem, 0))) == []


def test_the_reference_is_explained_where_it_is_the_suspect():
    """What was observed stands the other way round then."""
    suspect = faster(1.1)
    observed = observe(ADAM, suspect.trainer(ADAM), numpy().trainer(ADAM), 0)
    found = explain(numpy(), suspect, Evidence(ADAM, 0, observed=observed, swapped=True))
    assert found.description.startswith("updates 1.1 times as far")
    assert explain(numpy(), suspect, Evidence(ADAM, 0, observed=observed)) is None


def test_another_suspect_may_be_what_explains():
    """Under the right mapping both train the same: then it was the mapping that is wrong."""
    suspect = Broken(TransposedSquareWeight)

    def mapped(other):
        return Explanation(
            "mapping", "wrong", lambda evidence: iter([Intervention("is mapped", suspect=other)])
        )

    assert explained(SQUARE, suspect, explanations=[mapped(numpy())]).name == "mapping"
    assert explained(SQUARE, suspect, explanations=[mapped(suspect)]) is None


def test_what_raises_on_altered_numbers_explains_nothing():
    def leaves(grads, context):
        raise SystemExit("no such number")

    raising = Explanation("raising", "raises", lambda evidence: iter([Intervention(on_gradients=leaves)]))
    right = Explanation("right", "scales", lambda evidence: iter([_scaled(1 + 1e-10)]))
    assert explained(SQUARE, Broken(LearningRateOff), explanations=[raising, right]).name == "right"


def test_a_run_is_cut_before_its_losses_are_not_finite():
    """Too large a rate: the first steps tell it from a larger one, and nothing is compared that is no number."""
    problem = square_problem(epochs=200, optimizer=Optimizer("sgd", learning_rate=1e30))
    lost = NumPyTrainer(problem)
    with np.errstate(all="ignore"):
        losses = lost.fit(lost.init(), problem.batches(), LOSSES_ONLY).losses
    assert not np.isfinite(losses[:12]).all()
    assert explained(problem, faster(1.1), 0).name == "learning rate"


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "rmsprop", "adagrad", "radam", "nadam", "adamax"])
def test_a_count_ahead_moves_nothing_else(optimizer):
    problem = square(optimizer).replace(accumulation=2, schedule=Schedule("exponential", factor=0.9))
    trainer = NumPyTrainer(problem)
    start = trainer.read(trainer.init())
    ahead = trainer.read(Altered(trainer, Intervention(ahead=2)).init())
    assert ahead.step == 2
    for kind in ("parameters", "accumulator"):
        for name, value in getattr(start, kind).items():
            np.testing.assert_array_equal(getattr(ahead, kind)[name], value)
    altered = Altered(trainer, Intervention(ahead=2))
    counted = Altered(trainer, Intervention(on_start=lambda snapshot: dataclasses.replace(snapshot, step=2)))
    ours, theirs, plain = (trajectory(train(problem, one)) for one in (altered, counted, trainer))
    assert not all(np.array_equal(value, plain[name]) for name, value in ours.items())
    for name, value in ours.items():
        np.testing.assert_array_equal(value, theirs[name])
