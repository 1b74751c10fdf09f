"""What is proposed of a formula, in which words: no more, and no other mistake than the words say."""

import numpy as np
import pytest

from lockstep.backends.problem import Layer, Optimizer
from lockstep.backends.protocol import Snapshot
from lockstep.harness.explanations import gradients, optimizer
from lockstep.harness.explanations.evidence import Evidence
from lockstep.harness.problems.initial import draw
from tests.conftest import square_problem


def of_layers(*names):
    model = tuple(Layer(name, size=2) for name in names)
    return square_problem(model=model, initial=draw(model, (3,), seed=1))


def of_formula(propose, name, **args):
    problem = square_problem(optimizer=Optimizer(name, learning_rate=0.01, **args))
    return list(propose(Evidence(problem, 0)))


def test_a_dampening_is_of_the_first_step_where_the_words_say_so():
    found = of_formula(optimizer.dampening, "sgd", momentum=0.9)
    words = {one.description: one.spec.optimizer.args for one in found}
    assert {words: args["first_damped"] for words, args in words.items()} == {
        "damps the gradient by one minus the momentum, but not at the first step": False,
        "damps the gradient by one minus the momentum, at the first step, too": True,
    }
    assert {args["dampening"] for args in words.values()} == {0.9}


@pytest.mark.parametrize(
    ("name", "args", "switched"),
    [
        ("adam", {"amsgrad": True}, {"amsgrad": False}),
        ("adam", {"amsgrad": False}, {"amsgrad": True}),
        ("rmsprop", {"centered": True}, {"centered": False}),
        # nesterov has an explanation of its own.
        ("sgd", {"momentum": 0.9, "nesterov": True}, {}),
    ],
)
def test_only_switches_without_an_explanation_of_their_own_are_switched(name, args, switched):
    plain = Optimizer(name, learning_rate=0.01, **args).args
    changes: dict[str, object] = {}
    for one in of_formula(optimizer.other_switch, name, **args):
        changes |= {key: value for key, value in one.spec.optimizer.args.items() if value != plain[key]}
    assert {key: changes.get(key) for key in switched} == switched
    assert not {"nesterov", "decoupled", "epsilon_inside"} & changes.keys()
    assert {type(value) for value in changes.values()} <= {bool}


def test_one_parameter_or_all_of_a_kind_may_be_unknown_to_the_optimizer_and_never_all():
    found = [one.description for one in gradients.untouched(Evidence(of_layers("linear", "linear"), 0))]
    weights, biases = ([f"never updates {at}.linear/{kind}" for at in (0, 1)] for kind in ("w", "b"))
    assert sorted(found) == sorted([*weights, *biases, "never updates any /w", "never updates any /b"])
    found = [one.description for one in gradients.untouched(Evidence(of_layers("linear"), 0))]
    assert sorted(found) == ["never updates 0.linear/b", "never updates 0.linear/w"]
    assert not list(gradients.untouched(Evidence(of_layers("dot"), 0)))


def test_a_weight_decay_that_is_left_out_is_none():
    found = of_formula(optimizer.weight_decay, "sgd", weight_decay=0.1)
    (left_out,) = (one for one in found if one.description == "leaves the weight decay out")
    assert left_out.spec.optimizer.args["weight_decay"] == 0.0


@pytest.mark.parametrize(
    ("what", "mean", "square"),
    [
        ("leaves both bias corrections out", 1.0, 1.0),
        ("leaves the bias correction of the squares out", 1 - 0.9**3, 1.0),
        ("leaves the bias correction of the mean out", 1.0, 1 - 0.99**3),
    ],
)
def test_an_update_without_a_bias_correction_is_that_of_the_formula(what, mean, square):
    """The third update, from a mean of 0.3 and a mean square of 0.4; epsilon is as large as the root."""

    def moved(mean, square):
        return 1.0 - 0.01 * (0.3 / mean) / (np.sqrt(0.4 / square) + 0.5)

    problem = square_problem(
        optimizer=Optimizer("adam", learning_rate=0.01, beta1=0.9, beta2=0.99, epsilon=0.5)
    )
    (found,) = (one for one in optimizer.bias_correction(Evidence(problem, 0)) if one.description == what)
    state = {"mean/w": np.full(1, 0.3), "square/w": np.full(1, 0.4)}
    before = Snapshot({"w": np.ones(1)}, state, 2)
    after = Snapshot({"w": np.full(1, moved(1 - 0.9**3, 1 - 0.99**3))}, state, 3)
    assert found.on_update(before, after).parameters["w"] == pytest.approx(moved(mean, square), rel=1e-14)
