"""Problem: what it refuses, what it rounds, and that nobody can change it."""

import dataclasses
import pickle

import numpy as np
import pytest

from lockstep.backends.errors import LockstepError, ProblemError, UnknownNameError
from lockstep.backends.problem import Layer, Loss, Optimizer
from tests.conftest import square_problem

INITIAL = dict(square_problem().initial)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": ""}, "name must say something"),
        ({"name": 3}, "name must say something"),
        ({"dtype": "float16"}, "dtype is not offered"),
        ({"epochs": 0}, "epochs must be a positive integer"),
        ({"epochs": 2.0}, "epochs must be a positive integer"),
        ({"epochs": True}, "epochs must be a positive integer"),
        ({"model": ()}, "the model has no layers"),
        ({"model": ("linear",)}, "the layer has the wrong type"),
        ({"loss": "squared_error"}, r"build it with Loss\(name"),
        ({"optimizer": Loss("squared_error")}, "the optimizer has the wrong type"),
        ({"x": np.zeros((0, 3))}, "x is empty"),
        ({"x": [[1, 2, 3], [4, 5]]}, "x is not a rectangular array"),
        ({"x": [["a", "b", "c"]] * 12}, "x is not a rectangular array"),
        ({"x": np.ones(12)}, r"reshape it, for one column: x\[:, None\]"),
        ({"y": np.ones(12)}, "y must have a row for each example"),
        ({"x": np.ones((11, 3))}, "11 rows of x, 12 of y"),
        ({"x": np.full((12, 3), np.nan)}, r"nan at index \(0, 0\)"),
        ({"x": np.full((12, 3), 1e39), "dtype": "float32"}, "x is not finite in float32"),
        ({"model": (Layer("conv1d", size=2, window=1),)}, "cannot take its input"),
        ({"y": np.ones((12, 3))}, "the model's output and y differ in shape"),
        ({"initial": {}}, "missing: 0.linear/b"),
        ({"initial": INITIAL | {"0.linear/c": [1.0]}}, "missing: none; unknown: 0.linear/c"),
        ({"initial": INITIAL | {"0.linear/b": np.zeros((3, 1))}}, r"'0.linear/b' has the wrong shape"),
        (
            {"initial": INITIAL | {"2.add/b": [1.0, np.inf]}},
            r"'2.add/b' is not finite .*\n.*inf at index \(1,\)",
        ),
    ],
)
def test_what_is_refused(changes, words):
    with pytest.raises(ProblemError, match=words) as caught:
        square_problem(**changes)
    assert all((caught.value.what, caught.value.got, caught.value.fix))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Layer("liner", size=1), "did you mean 'linear'"),
        (lambda: Layer(3), "give a string"),
        (lambda: Layer("linear"), "lacks 'size'"),
        (lambda: Layer("linear", size=0), "size is out of range"),
        (lambda: Layer("linear", size=1.5), "size has the wrong type"),
        (lambda: Layer("linear", size=True), "size has the wrong type"),
        (lambda: Layer("linear", size=1, width=2), "does not take 'width'"),
        (lambda: Loss("squared_error", reduction="total"), "one of 'sum', 'mean'"),
        (lambda: Optimizer("sgd", learning_rate=0.0), "a float > 0"),
        (lambda: Optimizer("sgd", learning_rate=float("nan")), "out of range"),
        (lambda: Optimizer("sgd", learning_rate="fast"), "wrong type"),
    ],
)
def test_members_are_checked(make, words):
    with pytest.raises(LockstepError, match=words):
        make()


def test_members_are_values():
    one = Layer("linear", size=2)
    assert one == pickle.loads(pickle.dumps(one)) == Layer("linear", size=2)
    assert len({one, Layer("linear", size=2), Layer("linear", size=3), Layer("dot", size=2)}) == 3
    assert repr(one) == "Layer('linear', size=2)"
    with pytest.raises(TypeError, match="does not support item assignment"):
        one.args["size"] = 3


def test_an_unknown_member_is_an_unknown_name():
    with pytest.raises(UnknownNameError, match="unknown optimizer"):
        Optimizer("sdg", learning_rate=1.0)


def test_nothing_of_it_can_be_changed():
    problem = square_problem()
    for array in (problem.x, problem.y, problem.initial["0.linear/w"]):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        problem.epochs = 3
    with pytest.raises(TypeError):
        problem.initial["0.linear/w"] = None


def test_the_callers_arrays_are_not_held():
    x, y, b = np.ones((12, 3)), np.ones((12, 2)), np.ones(2)
    problem = square_problem(x=x, y=y, initial=INITIAL | {"2.add/b": b})
    for array in (x, y, b):
        array[:] = 7
    for held in (problem.x, problem.y, problem.initial["2.add/b"]):
        assert (held == 1).all()
    problem.batches().x[:] = 7
    problem.initial_parameters()["0.linear/w"][:] = 7
    assert (problem.batches().x == 1).all()
    assert not (problem.initial_parameters()["0.linear/w"] == 7).any()


def test_data_are_rounded_once_and_from_the_original():
    problem = square_problem(dtype="float32")
    assert problem.batches().x.dtype == problem.initial_parameters()["0.linear/w"].dtype == np.float32
    np.testing.assert_array_equal(problem.batches().x, square_problem().x.astype(np.float32))
    back = problem.replace(dtype="float64")
    np.testing.assert_array_equal(back.batches().x, square_problem().x)


def test_a_copy_is_validated_anew():
    problem = square_problem()
    assert problem.replace(epochs=9).epochs == 9
    with pytest.raises(ProblemError, match="epochs must be a positive integer"):
        problem.replace(epochs=0)


def test_it_survives_pickling():
    problem = square_problem(dtype="float32")
    copy = pickle.loads(pickle.dumps(problem))
    for field in dataclasses.fields(problem):
        left, right = getattr(problem, field.name), getattr(copy, field.name)
        if field.name == "initial":
            assert list(left) == list(right)
            for name in left:
                np.testing.assert_array_equal(left[name], right[name])
                assert not right[name].flags.writeable
        elif isinstance(left, np.ndarray):
            np.testing.assert_array_equal(left, right)
        else:
            assert left == right


def test_layers_are_named_by_place_and_op():
    layers = square_problem().layers
    assert [layer.name for layer in layers] == ["0.linear", "1.dot", "2.add"]
    assert [(layer.input_shape, layer.output_shape) for layer in layers] == [
        ((3,), (3,)),
        ((3,), (2,)),
        ((2,), (2,)),
    ]
    assert list(square_problem().parameter_shapes) == ["0.linear/b", "0.linear/w", "1.dot/w", "2.add/b"]


def test_batches_are_as_many_as_epochs():
    batches = square_problem(epochs=4).batches()
    assert len(batches) == len(list(batches)) == 4
