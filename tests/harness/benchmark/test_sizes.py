"""Problems of other sizes train as the first one does."""

import numpy as np
import pytest

import lockstep
from lockstep.backends.errors import LockstepError, ProblemError
from lockstep.backends.problem import Batching, Layer
from lockstep.harness.benchmark import memory
from lockstep.harness.benchmark.sizes import (
    parse,
    sweep,
    with_features,
    with_parameters,
    with_rows,
)
from lockstep.harness.problems import find
from lockstep.harness.problems.initial import draw
from tests.conftest import square_problem


def losses(problem):
    (run,) = lockstep.verify(problem, backends=["numpy"], dtypes=["float64"]).runs
    return run.trace.losses


def test_sizes_are_read():
    assert parse(["rows=1e3,10", "epochs=5"]) == {"rows": (1000, 10), "epochs": (5,)}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("row=10", "did you mean 'rows'"),
        ("rows", "not a positive whole number"),
        ("rows=", "not a positive whole number"),
        ("rows=1.5", "'1.5' in 'rows=1.5'"),
        ("rows=-1", "not a positive whole number"),
        ("rows=0", "not a positive whole number"),
        ("rows=nan", "not a positive whole number"),
        ("rows=inf", "not a positive whole number"),
        ("rows=1e12", "a billion at most"),
    ],
)
def test_what_is_no_size_is_refused(text, words):
    with pytest.raises(LockstepError, match=words):
        parse([text])


def test_a_size_given_twice_is_refused():
    with pytest.raises(LockstepError, match="given twice"):
        parse(["rows=1", "rows=2"])


@pytest.mark.parametrize("rows", [10, 30, 300])
def test_a_sum_over_more_rows_takes_the_same_course(rows):
    """Whole copies of the data, and a learning rate smaller by as much: every loss is larger by as much."""
    found = losses(with_rows(find("seed"), rows))
    if rows >= 30:
        np.testing.assert_allclose(found, losses(find("seed")) * rows / 30, rtol=1e-12)
    assert np.isfinite(found).all()
    assert found[-1] < found[0]


def test_batches_stay_as_they_are():
    problem = find("seed").replace(batching=Batching(10))
    more = with_rows(problem, 60)
    assert (more.batching.size, more.optimizer) == (10, problem.optimizer)
    assert with_rows(problem, 5).batching.size == 5


@pytest.mark.parametrize("features", [1, 2, 7, 64])
def test_more_features_do_not_diverge(features):
    found = losses(with_features(find("seed"), features))
    assert found[-1] < found[0]


def test_the_curvature_stays():
    """The largest eigenvalue of xᵀx decides which learning rate diverges."""
    largest = [np.linalg.norm(with_features(find("seed"), count).x, 2) for count in (2, 8)]
    assert largest[0] == pytest.approx(largest[1])


def test_parameters_are_reached_by_width():
    found = sweep(square_problem(), {"parameters": (50, 500)})
    counts = [one.size["parameters"] for one in found]
    assert all(count >= asked for count, asked in zip(counts, (50, 500), strict=True))
    narrower = with_parameters(square_problem(), counts[1] - 1)
    assert sum(value.size for value in narrower.initial.values()) == counts[1]
    assert [one.problem.y.shape for one in found] == [(12, 2)] * 2


@pytest.mark.parametrize("name", ["residual-mlp", "attention", "embedding"])
def test_branches_are_as_wide_as_what_they_are_added_to(name):
    """A residual's width is its input's; attention's is a multiple of its heads."""
    wider = with_parameters(find(name), 2_000)
    assert sum(value.size for value in wider.initial.values()) >= 2_000
    assert wider.layers[-1].output_shape == find(name).layers[-1].output_shape


def test_layers_that_cannot_have_one_width_are_refused():
    fixed = Layer(
        "residual", branches=[[Layer("layer_norm"), Layer("linear", size=3)]]
    )  # the data's own width
    model = (fixed, Layer("linear", size=2), Layer("linear", size=2))
    problem = square_problem(model=model, initial=draw(model, (3,), seed=0))
    with pytest.raises(
        ProblemError, match=r"'square' has hidden layers that cannot all be 1 wide: .*residual"
    ):
        with_parameters(problem, 100)


def test_several_values_are_a_sweep_and_one_is_that_of_all():
    found = sweep(find("seed"), {"rows": (30, 60), "epochs": (3,), "features": (2, 4)})
    assert [(one.axis, one.size["rows"], one.size["features"], one.size["epochs"]) for one in found] == [
        *(("rows", 30, 2, 3), ("rows", 60, 2, 3), ("features", 30, 2, 3), ("features", 30, 4, 3))
    ]
    (alone,) = sweep(find("seed"), {})
    assert (alone.axis, alone.problem.epochs) == ("", 10)


@pytest.mark.parametrize("axis", ["rows", "features", "parameters"])
def test_what_does_not_fit_into_memory_is_refused(axis, monkeypatch):
    monkeypatch.setattr(memory, "physical", lambda: 1 << 20)
    problem = square_problem()
    with pytest.raises(ProblemError, match="of that size does not fit into memory"):
        sweep(problem, {axis: (100_000,)})
    assert sweep(problem, {axis: (100,)})


def test_sizes_that_a_problem_has_not_are_refused():
    with pytest.raises(LockstepError, match="no hidden layer"):
        sweep(find("seed"), {"parameters": (10,)})
    with pytest.raises(LockstepError, match="no features that could be more"):
        sweep(find("convolution"), {"features": (10,)})
    with pytest.raises(LockstepError, match="no features that could be more"):
        sweep(find("embedding"), {"features": (10,)})
