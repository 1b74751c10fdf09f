"""The exact backend: its enclosures hold the true trajectory, and nothing is rounded on the way."""

import gc
from fractions import Fraction

import mpmath
import numpy as np
import pytest

pytest.importorskip("flint", reason="the extra `exact` is not installed")

from lockstep import backends
from lockstep.backends.exact import array as array_module
from lockstep.backends.exact import search as search_module
from lockstep.backends.exact.array import lift
from lockstep.backends.exact.backend import ExactBackend
from lockstep.backends.exact.ball import Ball, Undecided, working
from lockstep.backends.exact.precision import TARGET
from lockstep.backends.exact.search import NotEnclosed, NoValue
from lockstep.backends.numpy_vjp import tables
from lockstep.backends.numpy_vjp.ops.elementwise import SELU_ALPHA, SELU_SCALE
from lockstep.backends.ops import FUNCTIONS
from lockstep.backends.problem import Layer, Loss, Optimizer, walk
from lockstep.backends.protocol import LOSSES_ONLY, Recording, Trace
from lockstep.harness.core.verdict import Verdict
from lockstep.harness.problems import catalogue, find
from lockstep.harness.verification.parity import verify
from tests.backends.accuracy import EXACT, LOSS_ROWS, ROWS, exact
from tests.backends.exactly import holds, middle, radius
from tests.conftest import square_problem

TOO_LARGE = {"tall"}
NUMPY = backends.load("numpy")


def trained(backend, problem, recording=LOSSES_ONLY):
    trainer = backend.trainer(problem)
    return trainer.fit(trainer.init(), problem.batches(), recording)


# --- the truth, independently ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_seed_in_rational_arithmetic_lies_within(seed, dtype):
    problem = seed.replace(dtype=dtype)
    found = ExactBackend().enclosure(problem)
    batches, start = problem.batches(), problem.initial_parameters()
    x = [[Fraction(float(one)) for one in row] for row in batches.x]
    y = [Fraction(float(row[0])) for row in batches.y]
    w, b = [Fraction(float(row[0])) for row in start["0.linear/w"]], Fraction(float(start["0.linear/b"][0]))
    rate = Fraction(problem.optimizer.args["learning_rate"])
    for loss in found.losses:
        errors = [sum(map(Fraction.__mul__, row, w)) + b - target for row, target in zip(x, y, strict=True)]
        assert holds(loss, sum(error * error for error in errors))
        w = [w[k] - rate * 2 * sum(e * row[k] for e, row in zip(errors, x, strict=True)) for k in range(2)]
        b -= rate * 2 * sum(errors)
    assert all(map(holds, found.parameters["0.linear/w"].flat, w))
    assert holds(found.parameters["0.linear/b"][0], b)


def test_a_mean_is_divided_exactly():
    """1/n of NumPy's own ones would be a rounded float, and the enclosure would miss the truth."""
    problem = square_problem(
        model=(Layer("add"),), x=np.ones((3, 1)), y=np.zeros((3, 1)), initial={"0.add/b": [1.0]}
    )
    found = ExactBackend().enclosure(problem.replace(epochs=1))
    rate = Fraction(problem.optimizer.args["learning_rate"])
    assert holds(found.parameters["0.add/b"][0], 1 - 4 * rate)


def test_adam_by_hand_in_a_hundred_digits_lies_within():
    problem = square_problem(
        model=(Layer("dot", size=1),),
        x=np.array([[0.5, -1.25], [2.0, 0.75], [-0.3, 0.6]]),
        y=np.array([[1.0], [0.1], [-2.0]]),
        loss=Loss("squared_error", reduction="mean"),
        optimizer=Optimizer("adam", learning_rate=0.1),
        initial={"0.dot/w": np.array([[0.3], [-0.7]])},
        epochs=6,
    )
    found = ExactBackend().enclosure(problem)
    args = problem.optimizer.args
    with mpmath.workdps(100):
        number = mpmath.mpf
        x = [[number(float(one)) for one in row] for row in problem.x]
        y, w = [number(float(row[0])) for row in problem.y], [number(0.3), number(-0.7)]
        beta1, beta2, rate, epsilon = (
            number(args[key]) for key in ("beta1", "beta2", "learning_rate", "epsilon")
        )
        m, v = [number(0)] * 2, [number(0)] * 2
        for t, loss in enumerate(found.losses, start=1):
            errors = [
                sum(a * c for a, c in zip(row, w, strict=True)) - target
                for row, target in zip(x, y, strict=True)
            ]
            assert near(loss, sum(error**2 for error in errors) / 3)
            for k in range(2):
                g = sum(2 * error * row[k] for error, row in zip(errors, x, strict=True)) / 3
                m[k], v[k] = beta1 * m[k] + (1 - beta1) * g, beta2 * v[k] + (1 - beta2) * g * g
                step = (m[k] / (1 - beta1**t)) / (mpmath.sqrt(v[k] / (1 - beta2**t)) + epsilon)
                w[k] -= rate * step
        assert all(map(near, found.parameters["0.dot/w"].flat, w))


def near(one, truth):
    """Whether a number of a hundred digits lies within the ball, as far as it is known."""
    sign, significand, exponent, _ = truth._mpf_
    exactly = (-1) ** sign * int(significand) * Fraction(2) ** int(exponent)
    return abs(middle(one) - exactly) <= radius(one) + Fraction(1, 10**90)


GRID = np.array([-17.5, -3.0, -1.0, -0.25, 0.125, 0.5, 1.0, 2.75, 30.0, 37.5, 44.0, 0.001])
"""Magnitudes at which functions bend and saturate; 44 is beyond where floats are clipped."""


@pytest.mark.parametrize("label", ROWS)
def test_functions_are_the_stated_formulas_to_forty_digits(label):
    """A constant or a quotient rounded to double on the way would leave 16."""
    row = ROWS[label]
    x = np.abs(GRID) if row.positive else GRID
    x = x.reshape(-1, 4) if row.shape == (4,) else np.resize(x, (2, *row.shape))
    layer = Layer(row.name, **row.args)
    rng = np.random.default_rng(0)
    params = {
        key: rng.standard_normal(shape)
        for key, shape in FUNCTIONS[row.name].parameters(row.shape, layer.args).items()
    }
    with working(400):
        value = lift(x)
        pulls = []
        args = {key: Ball.of(one) if isinstance(one, float) else one for key, one in layer.args.items()}
        for f, name in tables.FUNCTIONS[row.name](args):
            w = lift(params[name]) if name else None
            pulls.append(f.make_vjp(value, w))
            value = f(value, w)
        u = lift(rng.standard_normal(value.shape))
        cotangent = u
        for pull in reversed(pulls):
            cotangent, _ = pull(cotangent)
        owed = row.owes(exact(x), {key: exact(one) for key, one in params.items()}, exact(u.astype(float)))
        for stage, found in (("f", value), ("x", cotangent)):
            assert_forty_digits(found, owed[stage].truth)


def test_no_float_range_is_cut_off():
    """Floats are clipped where a slope is 1 to all their digits; beyond, it still grows."""
    layer = Layer("gelu", approximate="tanh")
    ((f, _),) = tables.FUNCTIONS["gelu"](layer.args)
    with working(20_000):
        slopes = f.make_vjp(lift([44.0, 45.0]), None)(lift([1.0, 1.0]))[0]
        assert slopes[0] > slopes[1] > 1


@pytest.mark.parametrize("label", LOSS_ROWS)
def test_losses_are_the_stated_formulas_to_forty_digits(label):
    row = LOSS_ROWS[label]
    p = GRID.reshape(-1, 4)
    y = row.target(np.random.default_rng(1).random(p.shape))
    loss = Loss(row.name, reduction="sum", **row.args)
    args = {key: Ball.of(one) if isinstance(one, float) else one for key, one in loss.args.items()}
    with working(400):
        f = tables.LOSSES[row.name](args)
        owed = row.owes(exact(p), exact(y))
        assert_forty_digits(f(lift(p), lift(y)), owed["f"].truth)
        assert_forty_digits(f.make_vjp(lift(p), lift(y))(Ball.of(1))[0], owed["x"].truth)


def assert_forty_digits(found, truth):
    for one, wanted in zip(np.ravel(found), np.ravel(truth), strict=True):
        wanted = EXACT.mpf(wanted)
        apart = abs(EXACT.mpf(middle(one).numerator) / middle(one).denominator - wanted)
        assert apart <= (1 + abs(wanted)) * EXACT.mpf(10) ** -40, (one, wanted)


# --- the catalogue ---------------------------------------------------------------------------------------------------

SHORT = {"attention": 1}
"""Epochs of problems that take long; two for the others."""

CATALOGUE = [name for name in catalogue() if name not in TOO_LARGE]


def cut(name, dtype="float64"):
    """A problem of the catalogue, cut to few epochs."""
    return find(name).replace(dtype=dtype, epochs=SHORT.get(name, 2))


@pytest.mark.parametrize("name", CATALOGUE)
def test_the_catalogue_is_enclosed_near_its_float64_run_and_tighter_at_more_bits(name, monkeypatch):
    problem = cut(name)
    found = ExactBackend().enclosure(problem)
    errors = found.errors(trained(NUMPY, problem))
    loosest = max(np.max(errors.losses), *(np.max(one) for one in errors.parameters.values()))
    assert loosest * np.finfo(np.float64).eps < 1e-10
    monkeypatch.setattr(search_module, "FIRST", found.bits + 60)
    finer = ExactBackend().enclosure(problem)
    assert all(
        wide.value.contains(narrow.value) for wide, narrow in zip(found.losses, finer.losses, strict=True)
    )
    for leaf, value in found.parameters.items():
        pairs = list(zip(value.flat, finer.parameters[leaf].flat, strict=True))
        assert all(wide.value.contains(narrow.value) for wide, narrow in pairs)
        assert max(radius(narrow) for _, narrow in pairs) <= max(radius(wide) for wide, _ in pairs)


CONSTANTS = {0.96, 0.044715, SELU_ALPHA, SELU_SCALE}
"""What formulas state in decimals: the double nearest to it is meant."""


def stated(problem):
    """The hyperparameters of a problem."""
    found = set()
    for part in (*problem.parts, *walk(problem.layers)):
        for value in part.args.values():
            found |= set(value) if isinstance(value, tuple | list) else {value}
    return found


@pytest.mark.parametrize("name", [name for name in CATALOGUE if name not in SHORT])
def test_no_rounded_number_meets_a_ball(name, monkeypatch):
    """The data of a float32 problem have 24 bits. A double with more, no hyperparameter, was rounded on the way."""
    problem, lifted, lift_one = cut(name, "float32"), set(), Ball.of

    def spy(number):
        if isinstance(number, float | np.floating):
            lifted.add(float(number))
        return lift_one(number)

    monkeypatch.setattr(Ball, "of", staticmethod(spy))
    monkeypatch.setattr(array_module, "_lift", np.frompyfunc(spy, 1, 1))
    ExactBackend().enclosure(problem)
    assert lifted
    many = {one for one in lifted if float(np.float32(one)) != one}
    assert many <= stated(problem) | CONSTANTS


# --- the search ------------------------------------------------------------------------------------------------------


def test_precision_is_raised_until_all_is_enclosed(seed):
    found = ExactBackend().enclosure(seed.replace(epochs=100))
    assert [one.outcome for one in found.attempts] == ["too wide", "enclosed"]
    assert found.attempts[0].bits < found.bits < 300
    scale = max(middle(found.losses[0]), Fraction(0))
    assert all(radius(loss) <= max(middle(loss), scale) / 2**TARGET for loss in found.losses)
    for value in found.parameters.values():
        largest = max(abs(middle(one)) for one in value.flat)
        assert all(radius(one) <= largest / 2**TARGET for one in value.flat)


def test_what_was_made_at_a_low_precision_is_not_used_at_a_higher(monkeypatch):
    """Nadam keeps products of its momenta: those of the first attempt would stay wide for ever."""
    monkeypatch.setattr(search_module, "FIRST", 70)
    found = ExactBackend(limit=10).enclosure(find("nadam").replace(epochs=20))
    assert len(found.attempts) == 2


@pytest.mark.parametrize("collecting", [True, False])
def test_garbage_collection_pauses_and_is_as_before_afterwards(seed, monkeypatch, collecting):
    during, run = [], search_module._run

    def spy(*args):
        during.append(gc.isenabled())
        if len(during) > 1:
            raise RuntimeError("planted")
        return run(*args)

    monkeypatch.setattr(search_module, "_run", spy)
    before = gc.isenabled()
    (gc.enable if collecting else gc.disable)()
    try:
        ExactBackend().enclosure(seed)
        assert gc.isenabled() is collecting
        with pytest.raises(RuntimeError, match="planted"):
            ExactBackend().enclosure(seed)
        assert gc.isenabled() is collecting
    finally:
        (gc.enable if before else gc.disable)()
    assert during == [False, False]


def test_the_time_limit_is_told():
    backend = ExactBackend(limit=0.05)
    problem = find("momentum")
    assert "it would take about" in backend.supports(problem).reason
    with pytest.raises(NotEnclosed, match=r"not enclosed in 0.05 s"):
        backend.enclosure(problem)


def test_an_attempt_that_would_not_end_in_time_is_not_begun():
    with pytest.raises(NotEnclosed, match=r"would take about \d+ s more"):
        ExactBackend(limit=1.5).enclosure(find("residual-mlp"))


def test_a_million_rows_are_refused_with_the_time_they_would_take():
    assert "the limit is 60 s" in ExactBackend().supports(find("tall")).reason
    assert ExactBackend().supports(find("seed")) is None


def zeros(**changes):
    """One parameter, data 1 and targets 3/10 + 6/10: errors that vanish in truth are not 0 as balls."""
    fields = {
        "model": (Layer("add"),),
        "x": np.zeros((1, 1)),
        "y": np.zeros((1, 1)),
        "initial": {"0.add/b": [1.0]},
        "epochs": 1,
    }
    return square_problem(**{**fields, **changes})


def test_an_exact_kink_follows_the_convention():
    """|e| at e = 0 has derivative 0, as stated: nothing moves."""
    problem = zeros(loss=Loss("absolute_error"), y=np.ones((1, 1)))
    assert trained(ExactBackend(), problem).final.parameters["0.add/b"] == 1


def test_equal_numbers_that_balls_cannot_part_are_told():
    """Attention does not depend on its keys' bias: Lion takes the sign of a gradient that is 0 in truth."""
    problem = find("attention").replace(optimizer=Optimizer("lion", learning_rate=0.01), epochs=1)
    with pytest.raises(NoValue, match="step 1 has no certified value: numbers are equal"):
        ExactBackend().enclosure(problem)


def test_a_trajectory_that_is_not_finite_is_told():
    problem = zeros(model=(Layer("add"), Layer("log")), initial={"0.add/b": [-1.0]})
    with pytest.raises(NoValue, match="is not finite"):
        ExactBackend().enclosure(problem)


def test_a_zero_leaf_is_enclosed_beside_the_others():
    """Attention does not depend on its keys' bias: its gradient is 0 in truth, and a ball around 0 here."""
    problem, (bias,) = cut("attention"), [one for one in find("attention").initial if one.endswith("b_key")]
    start = {**problem.initial, bias: 0 * problem.initial[bias]}
    found = ExactBackend(limit=10).enclosure(problem.replace(initial=start))
    assert all(0 in one.value and radius(one) > 0 for one in found.parameters[bias].flat)


# --- errors and the protocol -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_errors_are_counted_in_ulps_of_the_scale(seed, dtype):
    problem = seed.replace(dtype=dtype)
    found = ExactBackend().enclosure(problem)
    trace = trained(ExactBackend(), problem)
    own = found.errors(trace)
    assert np.max(own.losses) <= 0.51
    assert all(np.max(one) <= 0.51 for one in own.parameters.values())
    moved = Trace(trace.losses + 3 * np.spacing(trace.losses[0]), trace.final)
    np.testing.assert_allclose(found.errors(moved).losses, 3, atol=0.51)
    assert found.losses[-1] < found.losses[0] / 2  # so an ULP of the loss itself would have been another


def test_a_trace_of_another_run_has_no_errors(seed):
    found = ExactBackend().enclosure(seed)
    with pytest.raises(ValueError, match=r"the trace has {'losses': \(9,\)"):
        found.errors(trained(NUMPY, seed.replace(epochs=9)))


@pytest.mark.parametrize("name", ["adam", "batch-norm", "accumulated", "averaged-debiased"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_steps_are_those_of_the_fit(name, dtype):
    """A step is taken from balls, so as many of them as one likes are rounded once, when they are read."""
    problem = cut(name, dtype)
    trainer = ExactBackend().trainer(problem)
    fitted = trainer.fit(trainer.init(), problem.batches(), Recording(parameters=True))
    state, losses = trainer.init(), []
    for batch in problem.batches():
        state, loss = trainer.step(state, batch)
        losses.append(loss)
    assert np.array(losses).tobytes() == fitted.losses.tobytes()
    assert fitted.losses.dtype == dtype
    found = trainer.read(state)
    for part in ("parameters", "optimizer", "buffers", "accumulator", "average"):
        for key, value in getattr(fitted.final, part).items():
            assert value.dtype == dtype
            assert value.tobytes() == getattr(found, part)[key].tobytes()
            again = trainer.read(trainer.write(trainer.init(), found))
            assert value.tobytes() == getattr(again, part)[key].tobytes()
    for key, value in fitted.parameters.items():
        assert value[-1].tobytes() == found.parameters[key].tobytes()
        assert value[0].tobytes() == problem.initial_parameters()[key].tobytes()


def test_stages_and_gradients_are_near_numpys():
    problem = cut("batch-norm")
    batch = next(iter(problem.batches()))
    wanted = ["batch", "forward", "loss", "cotangent", "gradient"]
    ours, theirs = (
        one.observe(one.init(), batch, wanted)
        for one in (backend.trainer(problem) for backend in (ExactBackend(), NUMPY))
    )
    assert list(ours) == list(theirs)
    for name, value in ours.items():
        assert value.dtype == theirs[name].dtype
        np.testing.assert_allclose(value, theirs[name], rtol=1e-10, atol=1e-12)
    trainer = ExactBackend().trainer(problem)
    _, _, grads = trainer.gradients(trainer.init(), batch)
    read = trainer.read_grads(grads)
    assert all(np.array_equal(read[name], ours[f"gradient/{name}"]) for name in read)
    state = trainer.apply(trainer.init(), trainer.write_grads(read))
    assert trainer.predict(state, batch.x).shape == batch.y.shape


def test_reading_a_state_whose_rounding_is_not_known_raises(seed):
    trainer = ExactBackend().trainer(seed)
    state, batch = trainer.init(), next(iter(seed.batches()))
    for _ in range(300):
        state, _ = trainer.step(state, batch)
    with pytest.raises(Undecided, match="a rounded parameter"):
        trainer.read(state)


def test_it_is_judged_like_any_backend():
    result = verify("seed", backends=["exact", "numpy"])
    assert result.verdict is Verdict.AGREE
    assert {run.backend for run in result.runs} == {"exact", "numpy"}


def test_a_hopeless_run_is_an_error_with_its_reason():
    result = verify(
        zeros(model=(Layer("add"), Layer("log")), initial={"0.add/b": [-1.0]}), backends=["exact"]
    )
    assert "no certified value" in result.runs[0].reason
