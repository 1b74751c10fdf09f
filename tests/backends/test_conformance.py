"""What every backend promises (`backends.protocol`), checked on every backend of the registry."""

import copy
import inspect
import itertools

import numpy as np
import pytest

from backends.adoption import OptimizerBackend
from backends.numpy_vjp.backend import NumPyBackend
from backends.problem import UNAVERAGED, Average, Batch, Batching, Clip, Layer, Optimizer, Penalty
from backends.protocol import (
    CAPABILITIES,
    LOSSES_ONLY,
    STAGES,
    Backend,
    Disturbable,
    Recording,
    Trainer,
    is_wanted,
)
from harness.initial import draw
from harness.problems import find
from tests.conftest import advance, square_problem

PROBLEMS = {
    "seed": lambda: find("seed"),
    "square": square_problem,
    "minibatches": lambda: square_problem(batching=Batching(size=5, shuffle=3)),
    "modes": lambda: with_modes(),
    "surrounded": lambda: surrounded_problem(),
}


def with_modes():
    """Buffers, a mask and a branch: a dot, batch norm beside dropout, a linear layer."""
    rng = np.random.default_rng(8)
    branches = [[Layer("batch_norm")], [Layer("dropout", rate=0.3)]]
    model = (Layer("dot", size=3), Layer("parallel", branches=branches), Layer("linear", size=2))
    x, y = rng.standard_normal((2, 12, 3))
    return square_problem(
        x=x, y=y[:, :2], model=model, initial=draw(model, (3,), 9), batching=Batching(size=5)
    )


def surrounded_problem():
    """All that can stand around the optimizer: 18 batches, four an update, of which two are left over."""
    return square_problem(
        optimizer=Optimizer("adam", learning_rate=0.05),
        batching=Batching(size=5, shuffle=3),
        penalties=(Penalty("l1", weight=0.1), Penalty("l2", weight=0.2, parameters="all")),
        accumulation=4,
        average=Average("ema", decay=0.7, debias=True),
    )


@pytest.fixture(params=PROBLEMS)
def problem(request, dtype):
    return PROBLEMS[request.param]().replace(dtype=dtype)


@pytest.fixture
def trainer(backend, problem):
    assert backend.supports(problem) is None
    return backend.trainer(problem)


@pytest.fixture
def batch(problem):
    return next(iter(problem.batches()))


def assert_same(left, right):
    assert list(left) == list(right)
    for name in left:
        np.testing.assert_array_equal(left[name], right[name], err_msg=name, strict=True)


def assert_near(left, right, dtype):
    """Equal within `close` of each array's largest magnitude."""
    assert list(left) == list(right)
    for name in left:
        room = close(dtype) * np.abs(right[name]).max()
        np.testing.assert_allclose(left[name], right[name], rtol=0, atol=room, err_msg=name)


def close(dtype):
    """Room for another order of a few dozen operations."""
    return 64 * float(np.finfo(dtype).eps)


@pytest.mark.parametrize("protocol", [Backend, Trainer])
def test_methods_and_arguments_are_the_protocols(backend, seed, protocol):
    """A Protocol is only checked statically; this holds third parties to it as well."""
    subject = backend if protocol is Backend else backend.trainer(seed)
    for name, member in vars(protocol).items():
        if name.startswith("_"):
            continue
        assert hasattr(subject, name), name
        if inspect.isfunction(member):
            expected = list(inspect.signature(member).parameters)[1:]
            assert list(inspect.signature(getattr(subject, name)).parameters) == expected, name
    public = {name for name in dir(subject) if not name.startswith("_")}
    known = set(vars(protocol))
    if protocol is Trainer and "twins" in subject.capabilities:
        known |= set(vars(Disturbable))
    if protocol is Backend:
        known |= set(vars(OptimizerBackend))
    assert public <= known, "nothing beyond the protocol"


def test_capabilities_are_known(trainer):
    assert trainer.capabilities <= CAPABILITIES


def test_environment_has_the_shared_keys(backend):
    environment = backend.environment()
    assert isinstance(environment["version"], str)
    assert environment["reduced_precision"] is False


def test_snapshots_are_canonical(trainer, problem):
    parameters = trainer.read(trainer.init()).parameters
    assert_same(parameters, problem.initial_parameters())
    assert list(parameters) == sorted(parameters)
    for name, value in parameters.items():
        assert value.dtype == problem.dtype
        assert value.shape == problem.parameter_shapes[name]
        assert value.flags.c_contiguous


def test_given_is_the_problems_own(trainer, problem):
    given = trainer.given()
    batches = problem.batches()
    expected = {"data/x": batches.x, "data/y": batches.y}
    expected |= {f"initial/{name}": value for name, value in problem.initial_parameters().items()}
    assert_same(dict(sorted(given.items())), dict(sorted(expected.items())))


def test_problem_batch_and_snapshot_are_never_changed(trainer, problem, batch):
    kept = copy.deepcopy(batch)
    state = trainer.init()
    snapshot = trainer.read(state)
    before = copy.deepcopy(snapshot)
    x, initial = problem.x.copy(), problem.initial_parameters()
    for _ in range(3):
        state, _ = trainer.step(state, batch)
    state = trainer.write(state, snapshot)
    trainer.observe(state, batch, STAGES)
    for _ in range(3):
        state, _ = trainer.step(state, batch)
    trainer.fit(trainer.write(state, snapshot), problem.batches(), LOSSES_ONLY)
    assert_same(snapshot.parameters, before.parameters)
    np.testing.assert_array_equal(batch.x, kept.x)
    np.testing.assert_array_equal(batch.y, kept.y)
    np.testing.assert_array_equal(problem.x, x)
    assert_same(problem.initial_parameters(), initial)


def test_what_was_handed_over_is_not_aliased(trainer, batch):
    """Changing an array after it was handed over changes nothing inside."""
    state = trainer.init()
    snapshot = trainer.read(state)
    expected = copy.deepcopy(snapshot.parameters)
    state = trainer.write(state, snapshot)
    grads = trainer.write_grads(snapshot.parameters)
    for value in snapshot.parameters.values():
        value += 1
    assert_same(trainer.read(state).parameters, expected)
    assert_same(trainer.read_grads(grads), expected)


def test_read_write_continue_is_uninterrupted_training(trainer, batch):
    # Where four batches make an update: after two updates, within the third.
    state = advance(trainer, trainer.init(), batch, 10)
    snapshot = trainer.read(state)
    straight = trainer.read(advance(trainer, state, batch, 3))
    resumed = trainer.read(advance(trainer, trainer.write(trainer.init(), snapshot), batch, 3))
    assert_same(resumed.parameters, straight.parameters)
    assert_same(resumed.optimizer, straight.optimizer)
    assert_same(resumed.buffers, straight.buffers)
    assert_same(resumed.accumulator, straight.accumulator)
    assert_same(resumed.average, straight.average)
    assert resumed.step == straight.step == 13


def test_a_step_is_its_two_halves(trainer, batch, problem):
    whole, loss = trainer.step(trainer.init(), batch)
    state, half_loss, grads = trainer.gradients(trainer.init(), batch)
    halves = trainer.apply(state, trainer.write_grads(trainer.read_grads(grads)))
    assert np.asarray(loss) == pytest.approx(np.asarray(half_loss), rel=close(problem.dtype))
    left, right = trainer.read(whole), trainer.read(halves)
    assert left.step == right.step == 1
    assert_near(left.accumulator, right.accumulator, problem.dtype)
    assert_near(left.average, right.average, problem.dtype)
    for name in left.parameters:
        np.testing.assert_allclose(left.parameters[name], right.parameters[name], rtol=close(problem.dtype))


def test_accumulator_and_average_are_canonical(trainer, problem, batch):
    snapshot = trainer.read(advance(trainer, trainer.init(), batch, 2))
    for kept, wanted in (
        (snapshot.accumulator, problem.accumulation > 1),
        (snapshot.average, problem.average != UNAVERAGED),
    ):
        assert list(kept) == (list(snapshot.parameters) if wanted else [])
        for name, value in kept.items():
            assert (value.dtype, value.shape) == (problem.dtype, problem.parameter_shapes[name])
            assert value.flags.c_contiguous


def test_gradients_update_nothing(trainer, batch, problem):
    state = advance(trainer, trainer.init(), batch, 6)
    before = trainer.read(state)
    state, _, grads = trainer.gradients(state, batch)
    after = trainer.read(state)
    assert after.step == before.step
    for kind in ("parameters", "optimizer", "accumulator", "average"):
        assert_same(getattr(after, kind), getattr(before, kind))
    shapes = {name: value.shape for name, value in trainer.read_grads(grads).items()}
    assert shapes == problem.parameter_shapes


def test_fit_trains_what_step_trains(trainer, problem):
    trace = trainer.fit(trainer.init(), problem.batches(), Recording(parameters=True))
    state, losses = trainer.init(), []
    for batch in problem.batches():
        state, loss = trainer.step(state, batch)
        losses.append(np.asarray(loss))
    assert trace.losses.shape == (problem.steps,)
    assert trace.losses.dtype == problem.dtype
    np.testing.assert_allclose(trace.losses, losses, rtol=close(problem.dtype))
    stepped = trainer.read(state)
    assert_near(trace.final.accumulator, stepped.accumulator, problem.dtype)
    assert_near(trace.final.average, stepped.average, problem.dtype)
    for name, value in stepped.parameters.items():
        np.testing.assert_allclose(trace.final.parameters[name], value, rtol=close(problem.dtype))
        assert trace.parameters[name].shape == (problem.epochs + 1, *value.shape)
        np.testing.assert_array_equal(trace.parameters[name][-1], trace.final.parameters[name])
        np.testing.assert_array_equal(trace.parameters[name][0], problem.initial_parameters()[name])
    assert trace.final.step == problem.steps


def test_recording_changes_no_bit(trainer, problem):
    plain = trainer.fit(trainer.init(), problem.batches(), LOSSES_ONLY)
    recorded = trainer.fit(trainer.init(), problem.batches(), Recording(parameters=True))
    assert plain.parameters is None
    np.testing.assert_array_equal(plain.losses, recorded.losses)
    assert_same(plain.final.parameters, recorded.final.parameters)


def test_training_leaves_the_users_random_states_alone(backend, seed):
    import torch

    np.random.seed(5)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    trainer = backend.trainer(seed)
    trainer.fit(trainer.init(), seed.batches(), LOSSES_ONLY)
    assert torch.equal(before[0], torch.get_rng_state())
    np.testing.assert_array_equal(before[1], np.random.get_state()[1])


def test_stages_are_complete_ordered_and_selected(trainer, batch, problem):
    state = trainer.init()
    stages = trainer.observe(state, batch, STAGES)
    layers = [layer.name for layer in problem.layers]
    assert list(stages) == [
        "batch/x",
        "batch/y",
        *(f"batch/mask/{name}" for name in batch.masks),
        *(f"forward/{name}" for name in layers),
        "loss",
        *(f"cotangent/{name}" for name in reversed(layers)),
        *(f"gradient/{name}" for name in problem.parameter_shapes),
    ]
    wanted = ["loss", f"forward/{layers[0]}"]
    assert list(trainer.observe(state, batch, wanted)) == [name for name in stages if is_wanted(name, wanted)]
    assert trainer.observe(state, batch, []) == {}


def test_stages_are_those_of_the_step(trainer, batch, problem):
    """The side run sees what the real path computes, and the cotangents are the loss' derivatives."""
    state = trainer.init()
    stages = trainer.observe(state, batch, STAGES)
    _, loss, grads = trainer.gradients(state, batch)
    tolerance = close(problem.dtype)
    assert stages["loss"] == pytest.approx(np.asarray(loss), rel=tolerance)
    for name, value in trainer.read_grads(grads).items():
        np.testing.assert_allclose(stages[f"gradient/{name}"], value, rtol=tolerance)
    residual = 2 * (stages[f"forward/{problem.layers[-1].name}"] - batch.y)
    if problem.loss.args["reduction"] == "mean":
        residual = residual / batch.y.size
    np.testing.assert_allclose(stages[f"cotangent/{problem.layers[-1].name}"], residual, rtol=tolerance)


def test_its_own_stages_injected_change_nothing(trainer, batch, problem):
    state = trainer.init()
    stages = trainer.observe(state, batch, STAGES)
    again = trainer.observe(state, batch, STAGES, injectable(stages))
    for name, value in stages.items():
        np.testing.assert_allclose(again[name], value, rtol=close(problem.dtype))


def test_what_follows_is_computed_from_what_is_injected(trainer, batch, problem):
    """As in NumPy's chain, whose formulas the next test has; the stage itself stays as it was computed."""
    state = trainer.init()
    own = trainer.observe(state, batch, STAGES)
    reference = NumPyBackend().trainer(problem)
    for name, value in injectable(own).items():
        other = {name: -0.5 * value}
        found = trainer.observe(state, batch, STAGES, other)
        assert_near(found, reference.observe(reference.init(), batch, STAGES, other), problem.dtype)
        if name.startswith("forward/"):
            np.testing.assert_array_equal(found[name], own[name])


def test_an_injected_output_goes_into_the_next_layer_and_an_injected_cotangent_into_the_one_before(backend):
    problem = square_problem()
    trainer, batch = backend.trainer(problem), next(iter(problem.batches()))
    w, rng = problem.initial_parameters()["1.dot/w"], np.random.default_rng(0)
    output, cotangent = rng.standard_normal((12, 3)), rng.standard_normal((12, 2))
    found = trainer.observe(
        trainer.init(), batch, STAGES, {"forward/0.linear": output, "cotangent/1.dot": cotangent}
    )
    np.testing.assert_allclose(found["forward/1.dot"], output @ w, rtol=1e-13)
    np.testing.assert_allclose(found["gradient/1.dot/w"], output.T @ cotangent, rtol=1e-13)
    np.testing.assert_allclose(found["cotangent/0.linear"], cotangent @ w.T, rtol=1e-13)
    np.testing.assert_allclose(found["gradient/0.linear/w"], batch.x.T @ cotangent @ w.T, rtol=1e-12)


def test_nothing_is_clipped_where_the_problem_does_not_clip(trainer, batch):
    state, _, grads = trainer.gradients(trainer.init(), batch)
    assert trainer.clipped(state, grads) == {}


@pytest.mark.parametrize("accumulation", [1, 2])
@pytest.mark.parametrize(("name", "limit"), [("norm", 0.5), ("value", 0.1)])
def test_clipped_is_what_the_update_is_made_of(backend, name, limit, accumulation):
    """With plain descent the update is the learning rate times it; and it is asked for without a trace."""
    problem = square_problem(
        clip=Clip(name, limit=limit), batching=Batching(size=3), accumulation=accumulation
    )
    trainer = backend.trainer(problem)
    state = trainer.init()
    for batch in itertools.islice(problem.batches(), 4):
        before = trainer.read(state)
        state, _, grads = trainer.gradients(state, batch)
        clipped = trainer.clipped(state, grads)
        state = trainer.apply(state, grads)
        after = trainer.read(state)
        assert bool(clipped) == (after.step % accumulation == 0)
        for leaf, value in clipped.items():
            moved = before.parameters[leaf] - after.parameters[leaf]
            np.testing.assert_allclose(0.05 * value, moved, rtol=0, atol=1e-15)
        if clipped and name == "value":
            assert max(np.abs(value).max() for value in clipped.values()) == limit
        if clipped and name == "norm":
            norm = np.sqrt(sum(np.sum(value**2) for value in clipped.values()))
            assert norm == pytest.approx(limit, rel=1e-5)


def injectable(stages):
    return {name: value for name, value in stages.items() if name.startswith(("forward/", "cotangent/"))}


def test_observing_moves_nothing(trainer, batch):
    watched, unwatched = trainer.init(), trainer.init()
    for _ in range(3):
        trainer.observe(watched, batch, STAGES)
        trainer.predict(watched, batch.x)
        watched, _ = trainer.step(watched, batch)
        unwatched, _ = trainer.step(unwatched, batch)
    left, right = trainer.read(watched), trainer.read(unwatched)
    assert_same(left.parameters, right.parameters)
    assert_same(left.buffers, right.buffers)


def test_a_short_batch_can_be_stepped(trainer, batch):
    """Nothing about the first batch's length is remembered."""
    state, _ = trainer.step(trainer.init(), batch)
    masks = {name: mask[:4] for name, mask in batch.masks.items()}
    state, loss = trainer.step(state, Batch(batch.x[:4], batch.y[:4], masks))
    assert np.isfinite(np.asarray(loss))
    assert trainer.read(state).step == 2
