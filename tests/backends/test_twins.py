"""Twins: the chain's mathematics without noise, and the sizes of what noise does."""

import math

import numpy as np
import pytest

from lockstep.backends.numpy_vjp.backend import NumPyTrainer
from lockstep.backends.numpy_vjp.twins import FUNCTIONS, Noise, Twins
from lockstep.backends.protocol import LOSSES_ONLY
from lockstep.harness.problems import catalogue, find

SMALL = [name for name in catalogue() if name not in ("tall", "wide")]
U64, U32 = 2.0**-53, 2.0**-24


def noise(dtype="float64", twins=2000, silent=False):
    made = Noise(twins, dtype, seed=3)
    if silent:
        made.unit = 0.0
        made._pool[:] = 0.0
        made._lasting[:] = 0.0
    return made


def of(values, dtype="float64", **options):
    return noise(dtype, **options).lift(np.array(values, dtype=dtype))


def spread(twins, truth):
    return np.sqrt(np.mean((twins.data - truth) ** 2, axis=0))


@pytest.mark.parametrize("name", SMALL)
def test_without_noise_twins_train_what_the_reference_trains(name, monkeypatch):
    """Every NumPy function that the chain calls means, over twins, what it means over arrays."""
    problem = find(name).replace(epochs=3)
    trainer = NumPyTrainer(problem)
    monkeypatch.setattr(
        "lockstep.backends.numpy_vjp.backend.Noise", lambda *given: noise(twins=3, silent=True)
    )
    with np.errstate(all="ignore"):
        plain = trainer.fit(trainer.init(), problem.batches(), LOSSES_ONLY)
        twins = trainer.disturbed(problem.batches(), 3, 0)
    assert twins.trace.losses.shape == (3, problem.steps)
    np.testing.assert_allclose(twins.trace.losses, np.tile(plain.losses, (3, 1)), rtol=1e-12)
    for part in ("parameters", "optimizer", "buffers", "accumulator", "average"):
        expected, found = getattr(plain.final, part), getattr(twins.trace.final, part)
        assert expected.keys() == found.keys()
        for key, value in expected.items():
            assert found[key].shape == (3, *value.shape)
            np.testing.assert_allclose(
                found[key], np.broadcast_to(value, found[key].shape), rtol=1e-10, atol=1e-13
            )
    assert (twins.evaluation is not None) == problem.has_modes


@pytest.mark.parametrize(("dtype", "unit"), [("float64", U64), ("float32", U32)])
def test_one_operation_is_disturbed_uniformly_within_the_unit_roundoff(dtype, unit):
    product = of([1.25], dtype) * of([1.5], dtype)
    relative = np.abs(product.data / 1.875 - 1)
    assert (
        relative.max() <= (2 if dtype == "float64" else 1) * unit
    )  # a double rounds its disturbance to its own grid
    assert 0.8 < spread(product, 1.875)[0] / 1.875 / (unit / math.sqrt(3)) < 1.5
    np.testing.assert_array_equal((-product).data, -product.data)  # a change of sign rounds nothing
    np.testing.assert_array_equal(np.maximum(product, 0.0).data, product.data)


def test_cancellation_in_a_bias_correction_is_seen():
    """1 − β₂ᵗ at t = 1 in float32: the rounding of 0.999, of u, is all that is left, 1,000 times as large."""
    made = noise("float32")
    correction = 1 - made.number(0.999) ** 1
    relative = spread(correction, 1 - 0.999) / (1 - 0.999)
    assert 300 * U32 < relative < 10_000 * U32


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_stagnation_is_seen(dtype):
    """Updates under half an ULP are lost by the reference, each time; twins keep them on average."""
    unit = U64 if dtype == "float64" else U32
    start, update, steps = np.ones(1, dtype), np.full(1, unit / 4, dtype), 4000
    plain, twins = start, noise(dtype, twins=200).lift(start)
    for _ in range(steps):
        plain, twins = plain + update, twins + update
    assert plain == 1
    drift = steps * unit / 4
    assert np.mean(twins.data) - 1 == pytest.approx(drift, rel=0.1)
    assert spread(twins, plain.astype(float))[0] >= 0.9 * drift


def test_any_order_of_summation_is_within_a_few_spreads():
    values = np.random.default_rng(0).random(100_000).astype(np.float32)
    total = np.sum(of(values, "float32", twins=50))
    exact = math.fsum(map(float, values))
    unit = float(spread(total, exact))
    one_after_the_other = float(np.cumsum(values)[-1])
    assert abs(one_after_the_other - exact) < 4 * unit
    assert 1e-6 < unit / exact < 1e-4


def test_a_decay_kept_as_its_complement_is_within():
    """Torch multiplies by 1 − ηλ, rounded the same way each step: what that adds up to grows with the steps."""
    made = noise("float32", twins=100)
    shrink = made.number(1e-4).as_complement()
    twins, plain, kept = made.lift(np.ones(1, np.float32)), np.ones(1), np.ones(1, np.float32)
    for _ in range(1000):
        twins, plain = twins - shrink * twins, plain - 1e-4 * plain
        kept = kept * np.float32(1 - 1e-4)
    assert abs(kept - plain) < 4 * spread(twins, plain)


def test_infinity_stays_and_is_no_nan():
    logits = of([[1.0, -np.inf]])
    with np.errstate(invalid="ignore"):
        assert np.all((logits - 1.0).data[..., 1] == -np.inf)
    assert np.all(np.exp(logits).data[..., 1] == 0)


def test_whole_numbers_leave_and_index():
    ids = of([2.0, 0.0])
    table = of(np.arange(6.0).reshape(3, 2))
    np.testing.assert_array_equal(table[ids.astype(np.intp)].data[0], [[4, 5], [0, 1]])


def test_an_unknown_function_is_named():
    assert np.median not in FUNCTIONS
    with pytest.raises(TypeError, match=r"median is not known to twins; add it to twins\.FUNCTIONS"):
        np.median(of([1.0, 2.0]))


def test_a_seed_repeats_and_another_does_not():
    runs = [np.exp(Noise(4, "float64", seed).lift(np.array([1.0]))).data for seed in (0, 0, 1)]
    np.testing.assert_array_equal(runs[0], runs[1])
    assert np.any(runs[0] != runs[2])


def test_twins_broadcast_each_with_itself():
    made = noise(twins=3, silent=True)
    a = Twins(np.arange(3.0).reshape(3, 1), made)  # shape (1,), one number a twin
    b = np.ones((2, 4, 1))
    total = a + b
    assert total.shape == (2, 4, 1)
    np.testing.assert_array_equal(total.data[:, 0, 0, 0], [1, 2, 3])


@pytest.mark.parametrize("name", ["adam", "batch-norm-debiased", "accumulated", "averaged", "residual-mlp"])
def test_without_noise_a_disturbed_step_is_the_step(name, monkeypatch):
    problem = find(name)
    trainer = NumPyTrainer(problem)
    monkeypatch.setattr(
        "lockstep.backends.numpy_vjp.backend.Noise", lambda *given: noise(twins=3, silent=True)
    )
    batches = iter(problem.batches())
    state, _ = trainer.step(trainer.init(), next(batches))
    batch, before = next(batches), trainer.read(state)
    observed = trainer.observe(state, batch, ("batch", "forward", "loss", "cotangent", "gradient"))
    given = {key: np.ones_like(value) for key, value in before.parameters.items()}
    found = trainer.disturbed_step(before, batch, given, 3, 0)
    assert found.stages.keys() == observed.keys()
    for key, value in observed.items():
        np.testing.assert_allclose(
            found.stages[key], np.broadcast_to(value, (3, *value.shape)), rtol=1e-12, atol=1e-14
        )
    moved, _, own = trainer.gradients(trainer.write(trainer.init(), before), batch)
    for grads, side in ((given, found.injected), (own, found.undivided)):
        after = trainer.read(trainer.apply(moved, grads))
        assert side.step == after.step
        for part in ("parameters", "optimizer", "buffers", "accumulator", "average"):
            for key, value in getattr(after, part).items():
                expected = np.broadcast_to(value, (3, *value.shape))
                np.testing.assert_allclose(getattr(side, part)[key], expected, rtol=1e-12, atol=1e-14)
