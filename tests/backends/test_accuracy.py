"""Every function and loss of every backend against fifty digits and against NumPy: tails, kinks, ties, denormals."""

import functools

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from lockstep import backends
from lockstep.backends.numpy_vjp import tables
from lockstep.backends.numpy_vjp.chain import evaluate_chain, pull_back
from lockstep.backends.ops import FUNCTIONS, LOSSES
from lockstep.backends.problem import DTYPES, Batch, Layer, Loss, Optimizer, Problem
from tests.backends.accuracy import LOSS_ROWS, ROWS, Owed, exact
from tests.backends.accuracy_tails import TAILS, beyond
from tests.backends.test_accuracy_layers import HELD
from tests.conftest import BACKENDS

EXAMPLES = 80
"""In a batch: one shape a row, so that each backend compiles it once."""

SMALL = (2, 4)
"""A batch of predictions: few, so that a sum hides little."""

WEIGHTS = np.array([1.0, -0.7, 0.3, 0.5])
"""The cotangent's size, cycled along the outputs; its sign is random. At most 1: what u ⊙ f′ flushes is flushed alone."""


class Bench:
    """One row on one backend: examples through an exact identity, the function, and what sets its cotangent.

    The identity (a leaky ReLU of slope 1) makes J_f(x)ᵀu the cotangent of its output. The scale s after the
    function and the loss Σ|f ⊙ s − y| with an enormous y make u = ±s, whatever f is, in every backend.
    """

    def __init__(self, backend, label, dtype):
        row, self.dtype = ROWS[label], dtype
        self.layer, rng = f"1.{row.name}", np.random.default_rng(11)
        model = (Layer("leaky_relu", slope=1.0), Layer(row.name, **row.args))
        outputs = FUNCTIONS[row.name].output(row.shape, model[1].args)
        size = int(np.prod(outputs))
        last = [Layer("scale")] if len(outputs) == 1 else [Layer("flatten"), Layer("scale")]
        self.weights = np.resize(WEIGHTS, outputs).astype(dtype)
        self.signs = rng.choice([-1.0, 1.0], (EXAMPLES, *outputs)).astype(dtype)
        shapes = FUNCTIONS[row.name].parameters(row.shape, model[1].args)
        self.params = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}
        self.cotangent = self.signs * self.weights
        self.trainer = backends.load(backend).trainer(
            Problem(
                name="bench",
                x=np.ones((EXAMPLES, *row.shape)),
                y=np.ones((EXAMPLES, size)),
                model=(*model, *last),
                loss=Loss("absolute_error", reduction="sum"),
                optimizer=Optimizer("sgd", learning_rate=0.1),
                epochs=1,
                initial={
                    "2.scale/s": self.weights,
                    **{f"{self.layer}/{k}": v for k, v in self.params.items()},
                },
                dtype=dtype,
            )
        )
        self.state = self.trainer.init()

    def __call__(self, x):
        """The stages "f", "x" and each parameter's gradient, and u."""
        y = -self.signs.reshape(EXAMPLES, -1) * np.finfo(self.dtype).max
        with np.errstate(all="ignore"):
            stages = self.trainer.observe(self.state, Batch(x, y), ["forward", "cotangent", "gradient"])
        found = {"f": stages[f"forward/{self.layer}"], "x": stages["cotangent/0.leaky_relu"]}
        return {**found, **{name: stages[f"gradient/{self.layer}/{name}"] for name in self.params}}


class LossBench:
    """One loss on one backend: predictions through a scale of 1, and the sum of the loss's terms."""

    def __init__(self, backend, label, dtype):
        row = LOSS_ROWS[label]
        rows = np.full(SMALL, 0.25)
        self.trainer = backends.load(backend).trainer(
            Problem(
                name="bench",
                x=rows,
                y=rows,
                model=(Layer("scale"),),
                loss=Loss(row.name, reduction="sum", **row.args),
                optimizer=Optimizer("sgd", learning_rate=0.1),
                epochs=1,
                initial={"0.scale/s": np.ones(SMALL[1])},
                dtype=dtype,
            )
        )
        self.state = self.trainer.init()

    def __call__(self, p, y):
        with np.errstate(all="ignore"):
            stages = self.trainer.observe(self.state, Batch(p, y), ["loss", "cotangent"])
        return {"f": stages["loss"], "x": stages["cotangent/0.scale"]}


bench = functools.cache(Bench)
loss_bench = functools.cache(LossBench)


def domain(row, dtype):
    """The least and the largest magnitude that a row is asked about."""
    info = np.finfo(dtype)
    least, largest = float(info.smallest_subnormal), float(info.max)
    return (least if row.low == 1 else float(info.tiny) ** row.low), (
        largest if row.high == 1 else largest**row.high
    )


@functools.cache
def specials(label, dtype):
    """Zeros, kinks and their neighbours, denormals, thresholds of exp, the ends of the range, close samples."""
    row, info = {**ROWS, **LOSS_ROWS}[label], np.finfo(dtype)
    least, largest = domain(row, dtype)
    edges = [np.log(float(info.max)), -np.log(float(info.tiny)), -np.log(float(info.smallest_subnormal))]
    kinks = np.array([1.0, *row.kinks], dtype)
    near = [kinks, np.nextafter(kinks, 0 * kinks), np.nextafter(kinks, kinks + 1)]
    magnitudes = np.concatenate(
        [
            *near,
            [
                float(info.tiny),
                float(info.tiny) / 3,
                float(info.smallest_subnormal),
                least,
                largest,
                largest * 0.75,
            ],
            np.array(edges) * (1 - 1e-4),
            np.array(edges) * (1 + 1e-4),
            *(np.linspace(*interval, 16) for interval in row.dense),
        ]
    )
    magnitudes = np.unique(np.clip(magnitudes, least, largest)).astype(dtype)
    signed = magnitudes if row.positive else np.concatenate([magnitudes, -magnitudes, [0.0, -0.0]])
    return signed.astype(dtype)


def grid(label, dtype, size):
    """`size` points: the special ones, then magnitudes over the whole range and an even sample of ±40."""
    row = {**ROWS, **LOSS_ROWS}[label]
    least, largest = domain(row, dtype)
    first = specials(label, dtype)
    spread = np.exp(np.linspace(np.log(least), np.log(largest), (size - len(first)) // 2))
    even = np.linspace(0.01, min(40, largest), size - len(first) - len(spread))
    rest = np.concatenate([spread, even])
    signs = 1 if row.positive else np.resize([1, -1], rest.shape)
    return np.concatenate([first, (signs * np.clip(rest, least, largest)).astype(dtype)]).astype(dtype)


def rows_of(flat, row):
    """Examples of the row's shape; the last ones are ties."""
    x = np.resize(flat, (EXAMPLES, *row.shape))
    x[-4:] = x[-8:-4, :1]
    return x


def owed_at(label, x, u):
    params = {name: exact(value) for name, value in bench("numpy", label, x.dtype.name).params.items()}
    return ROWS[label].owes(exact(x), params, exact(u))


def tails_of(label, backend, stage, x, u, y=0.0):
    """The larger intermediates of a backend's own formula, as far as they concern this stage."""
    larger = beyond(label, backend, stage, x, y)
    return larger * np.abs(u) if stage == "x" and larger.any() else larger


def judged(label, backend, x, y, owed, found, reference, u):
    """For each stage: the error as a share of what is owed, of what is allowed, and the distance to NumPy as a share."""
    dtype = x.dtype.name
    # Where the value or its derivative is near overflow, the derivative may be made of what overflows.
    top = float(np.finfo(dtype).max) / 16
    with np.errstate(over="ignore"):  # infinite is near overflow; an older NumPy warns of the cast
        slope, total = (np.abs(np.asarray(owed[stage].truth).astype(float)) for stage in ("x", "f"))
    reached = (slope < top) & (total < top if total.shape in ((), slope.shape) else True)
    for stage, one in owed.items():
        value = found[stage]
        assert value.dtype == dtype, (stage, value.dtype)
        assert np.shape(value) == np.shape(one.truth), stage
        more = 0.0
        if stage in ("f", "x"):
            more = tails_of(label, backend, stage, x, u, y)
            more = np.max(more) if np.shape(more) != np.shape(value) else more
        asked = reached if stage == "x" else True
        with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
            apart = np.abs(value.astype(float) - reference[stage].astype(float))
            apart = np.where(np.isfinite(value) & np.isfinite(reference[stage]), apart, 0)
            error = np.where(asked, one.error(value), 0)
            allowed = one.allowed(dtype, more)
            yield (
                stage,
                8 * error / one.allowed(dtype),
                np.where(np.isinf(allowed), 0, error / allowed),
                np.where(asked, apart / one.allowed(dtype, more, sides=2), 0),
            )


def assert_accurate(label, x, y, owed, u):
    """Each backend's own error, and its distance from NumPy."""
    found = {backend: measured(label, backend, x, y) for backend in BACKENDS}
    for backend in BACKENDS:
        for stage, ulps, own, apart in judged(label, backend, x, y, owed, found[backend], found["numpy"], u):
            for what, share in (("is off", own), ("is apart from numpy", apart)):
                worst = np.unravel_index(np.argmax(share), np.shape(share))
                at = (
                    (x[worst], y if np.ndim(y) == 0 else y[worst])
                    if np.shape(x) == np.shape(share)
                    else worst
                )
                assert share[worst] <= 1, (
                    f"{backend} {label} {stage} {x.dtype} {what} by {float(np.max(8 * share[worst])):.3g} of 8 ULP "
                    f"at {at}: {np.ravel(found[backend][stage])[np.argmax(share)]!r}, stated "
                    f"{np.ravel(owed[stage].truth)[np.argmax(share)]}, ratio to the stated {np.max(ulps):.3g}"
                )


def loss_points(label, dtype):
    """One prediction and target at a time, as many times as a batch has elements, so that no other hides it."""
    row, size = LOSS_ROWS[label], len(specials(label, dtype))
    p = np.stack([np.roll(grid(label, dtype, size + 40), shift) for shift in range(SMALL[1])], axis=-1)
    share = np.random.default_rng(3).random(p.shape)
    share[:size] = 0.25  # the special ones are errors, not only predictions
    y = row.target(share).astype(dtype)
    p, y = (p[::3], y[::3]) if row.rowwise else (p[:, :1], y[:, :1])
    for one, target in zip(p, y, strict=True):
        yield np.broadcast_to(one, SMALL).copy(), np.broadcast_to(target, SMALL).copy()


@functools.cache
def samples(label, dtype):
    """The fixed points of a row, with what they owe and the cotangent."""
    if label in LOSS_ROWS:
        return [
            (p, y, LOSS_ROWS[label].owes(exact(p), exact(y)), np.ones(SMALL))
            for p, y in loss_points(label, dtype)
        ]
    x = rows_of(grid(label, dtype, 4 * EXAMPLES), ROWS[label])
    u = bench("numpy", label, dtype).cotangent
    return [(x, 0.0, owed_at(label, x, u), u)]


def measured(label, backend, x, y):
    """What a backend finds."""
    if label in LOSS_ROWS:
        return loss_bench(backend, label, x.dtype.name)(x, y)
    return bench(backend, label, x.dtype.name)(x)


def test_every_function_and_loss_has_a_row():
    assert {row.name for row in ROWS.values()} == set(FUNCTIONS) - HELD
    assert {row.name for row in LOSS_ROWS.values()} == set(LOSSES) - {"gaussian"}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("label", [*ROWS, *LOSS_ROWS])
def test_accuracy_holds_over_the_domain(label, dtype):
    for x, y, owed, u in samples(label, dtype):
        assert_accurate(label, x, y, owed, u)


def numbers(label, dtype):
    """Special points, any float of the domain, and floats where functions bend."""
    row = {**ROWS, **LOSS_ROWS}[label]
    least, largest = domain(row, dtype)
    width = np.finfo(dtype).bits
    largest = float(np.nextafter(np.array(largest, dtype), np.array(0, dtype)))
    least = float(np.nextafter(np.array(least, dtype), np.array(np.inf, dtype)))
    magnitude = st.floats(least, largest, width=width)
    middle = st.floats(2.0**-10, 40, width=width)
    anywhere = st.one_of(magnitude, middle)
    signed = anywhere if row.positive else st.one_of(anywhere, anywhere.map(lambda value: -value))
    return st.one_of(st.sampled_from(specials(label, dtype).tolist()), signed)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("label", ROWS)
@settings(max_examples=5, phases=[Phase.generate])
@given(data=st.data())
def test_functions_are_accurate_at_drawn_points(label, dtype, data):
    assert_accurate_at(label, dtype, data.draw(st.lists(numbers(label, dtype), min_size=4, max_size=24)))


def test_a_sum_may_have_lost_terms_that_were_flushed():
    """Drawn once: of the gradient's two terms, both within twice the smallest normal number, JAX takes one for 0."""
    tiny = float(np.finfo("float64").tiny)
    assert_accurate_at("scale", "float64", [tiny / 2, -16.0, -7.0, 708.0, -tiny, 19.0])


def assert_accurate_at(label, dtype, points):
    x = np.full((EXAMPLES, *ROWS[label].shape), 1 if ROWS[label].positive else 0, dtype)
    x.flat[: len(points)] = points
    u = bench("numpy", label, dtype).cotangent
    assert_accurate(label, x, 0.0, owed_at(label, x, u), u)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("label", LOSS_ROWS)
@settings(max_examples=5, phases=[Phase.generate])
@given(data=st.data())
def test_losses_are_accurate_at_drawn_points(label, dtype, data):
    size = SMALL[0] * SMALL[1]
    p = np.array(data.draw(st.lists(numbers(label, dtype), min_size=size, max_size=size)), dtype).reshape(
        SMALL
    )
    share = data.draw(st.lists(st.floats(0.01, 1), min_size=size, max_size=size))
    y = LOSS_ROWS[label].target(np.reshape(share, SMALL)).astype(dtype)
    assert_accurate(label, p, y, LOSS_ROWS[label].owes(exact(p), exact(y)), np.ones(SMALL))


@functools.cache
def worst(label, backend, stage, tail):
    """The most ULP of the stated formula's largest intermediate that a backend is off in a tail, on the fixed grids."""
    found = 0.0
    for dtype in DTYPES:
        for x, y, owed, u in samples(label, dtype):
            values = measured(label, backend, x, y)
            for name, ulps, _, _ in judged(label, backend, x, y, owed, values, values, u):
                if name == stage:
                    ulps = np.broadcast_to(ulps, x.shape)
                    inside = tail.where(x.astype(float), np.asarray(y, float), np.finfo(dtype))
                    found = max(found, float(np.max(ulps, where=inside & ~np.isnan(ulps), initial=0.0)))
    return found


CLAIMS = [(tail, label, backend) for tail in TAILS for label in tail.labels for backend in tail.backends]


@pytest.mark.parametrize(
    ("tail", "label", "backend"), CLAIMS, ids=lambda value: value if isinstance(value, str) else "tail"
)
def test_every_tail_is_needed(tail, label, backend):
    """Where a tail is said to hold, a backend is beyond 8 ULP; on a machine where it is said not to, nowhere."""
    off = max(worst(label, backend, stage, tail) for stage in tail.stages)
    assert (off > 8) is tail.holds(), f"{off:.3g} ULP: {tail.why}"


ROUNDED = {"gelu", "gelu-tanh", "log_cosh"}
"""Formulas of this repository with a constant, 1/√2π, √(2/π) or log 2, that is rounded to float64."""


def assert_stated(label, found, owed):
    for stage, one in owed.items():
        error = np.max(np.abs(found[stage] - one.truth))
        assert error <= (1e-15 if label in ROUNDED else 1e-45), (label, stage, error)


@pytest.mark.parametrize("label", ROWS)
def test_numpys_functions_run_over_objects_and_are_the_stated_ones(label):
    """Over fifty digits the hand-written formulas are the stated ones: what is left in floats is rounding."""
    row, rng = ROWS[label], np.random.default_rng(6)
    args = Layer(row.name, **row.args).args
    x = rng.standard_normal((5, *row.shape)) * 3
    x = exact(np.abs(x) + 0.1 if row.positive else x)
    shapes = FUNCTIONS[row.name].parameters(row.shape, args)
    params = {name: exact(rng.standard_normal(shape)) for name, shape in shapes.items()}
    links = tables.FUNCTIONS[row.name](args)
    funcs, leaves = [f for f, _ in links], [leaf for _, leaf in links]
    weights = [params.get(leaf) for leaf in leaves]
    values = evaluate_chain(x, funcs, weights, return_all=True)
    u = exact(rng.standard_normal(values[-1].shape))
    cotangents, grads = pull_back(values, funcs, weights, u)
    found = {"f": values[-1], "x": cotangents[0], **dict(zip(leaves, grads, strict=True))}
    assert_stated(label, found, row.owes(x, params, u))


@pytest.mark.parametrize("label", LOSS_ROWS)
def test_numpys_losses_run_over_objects_and_are_the_stated_ones(label):
    row, rng = LOSS_ROWS[label], np.random.default_rng(6)
    f = tables.LOSSES[row.name](Loss(row.name, reduction="sum", **row.args).args)
    p, y = exact(rng.standard_normal((3, 4)) * 2), exact(row.target(rng.random((3, 4))))
    found = {"f": f(p, y), "x": f.make_vjp(p, y)(exact(np.ones(())))[0]}
    assert_stated(label, found, row.owes(p, y))


def test_nine_ulps_are_seen():
    """The judge itself: nine ULP beside the truth, a flushed denormal, an overflow."""
    one = np.ones(1)
    owed = Owed(exact(one), exact(one))
    assert owed.error(one + 8 * np.spacing(1.0)) <= owed.allowed("float64")
    assert owed.error(one + 9 * np.spacing(1.0)) > owed.allowed("float64")
    small = Owed(exact(np.array([1e-310])), exact(np.array([1e-310])))
    assert small.error(np.zeros(1)) <= small.allowed("float64")
    assert owed.error(np.array([np.inf])) == owed.error(np.array([np.nan])) == np.inf
    beyond_range = Owed(exact(one) * 10**400, exact(one) * 10**400)
    assert beyond_range.error(np.array([np.inf])) == 0
