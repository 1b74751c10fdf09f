"""The limits of stages, of what a backend carries from step to step, and of how far rounding grows.

Each is approached through `lockstep.diagnose`, with the NumPy backend and a copy of it that is off by a known amount.
`README.md` in this folder lists the numbers, and by how much each may be off before a test here fails.
"""

import dataclasses

import numpy as np
import pytest

import lockstep
from lockstep import Verdict
from lockstep.backends.numpy_vjp.backend import NumPyBackend
from lockstep.backends.problem import Layer, Loss, Optimizer, Problem
from lockstep.backends.protocol import LOSSES_ONLY
from lockstep.harness.diagnose.diagnosis import Kind
from tests.conftest import square_problem
from tests.judge.test_budget_bounds import chaotic
from tests.meta.faults import Broken
from tests.meta.stepwise import StepwiseTrainer

EPS = {"float64": 2.0**-52, "float32": 2.0**-23}


def larger(value, units):
    """The largest element of a parameter further from zero by so many eps of itself."""
    out = value.copy()
    out.flat[np.abs(out).argmax()] *= 1 + units * EPS[str(out.dtype)]
    return out


def diagnosed(trainer, problem):
    return lockstep.diagnose(problem, Broken(trainer), others=())


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("units", "verdict"), [(30, Verdict.AGREE), (80, Verdict.DIFFER)])
def test_a_stage_may_be_off_by_tens_of_units_of_rounding_not_by_eighty(units, verdict, dtype):
    """45 are allowed: another order of summation over tens of terms."""

    class Off(StepwiseTrainer):
        def apply(self, state, grads):
            after = super().apply(state, grads)
            moved = {name: larger(value, units) for name, value in after.parameters.items()}
            return after._replace(parameters=moved)

    found = diagnosed(Off, square_problem(dtype=dtype, epochs=1))
    assert found.ledger.verdict is found.verdict is verdict, found.sentence
    if verdict is Verdict.DIFFER:
        assert (found.kind, found.first.kind) == (Kind.LOCAL, "update"), found.sentence


def test_a_stage_that_magnifies_rounding_may_be_off_by_more():
    """A loss near its minimum has lost most of its digits: what rounding of the inputs makes of it passes, ten times that does not."""
    rng = np.random.default_rng(3)
    x = rng.standard_normal((8, 3))
    weights = np.array([[0.7], [-1.3], [2.1]])
    problem = square_problem(
        x=x,
        y=x @ weights + 1e-3 * rng.standard_normal((8, 1)),
        model=(Layer("dot", size=1),),
        initial={"0.dot/w": weights},
        epochs=1,
    )
    trainer = NumPyBackend().trainer(problem)
    plain = trainer.fit(trainer.init(), problem.batches(), LOSSES_ONLY).losses[0]
    near = []
    for _ in range(32):
        moved = {
            name: value * (1 + EPS["float64"] * rng.choice((-1, 1), value.shape))
            for name, value in (("x", problem.x), ("y", problem.y))
        }
        other = NumPyBackend().trainer(problem.replace(**moved))
        near.append(
            other.fit(other.init(), problem.replace(**moved).batches(), LOSSES_ONLY).losses[0] - plain
        )
    spread = float(np.sqrt(np.mean(np.square(near))))
    assert spread > 100 * EPS["float64"] * plain  # so that it is the spread that decides

    def off(share):
        class Off(StepwiseTrainer):
            def gradients(self, state, batch):
                state, loss, grads = super().gradients(state, batch)
                return state, np.asarray(loss + share * spread), grads

        return diagnosed(Off, problem)

    assert off(12).verdict is Verdict.AGREE
    found = off(300)
    assert (found.verdict, found.first.name) == (Verdict.DIFFER, "loss"), found.sentence


ROWS = 65_536


@pytest.mark.parametrize(
    ("units", "verdict"),
    [
        # A plain float32 sum over 1e6 rows was off by 5e-4, 4,200 units; rounding grows like the root of the rows.
        (1_100, Verdict.AGREE),
        (6_000, Verdict.DIFFER),
    ],
)
def test_the_rounding_of_long_sums_passes_and_no_more(units, verdict):
    rng = np.random.default_rng(0)
    problem = Problem(
        name="long",
        dtype="float32",
        x=rng.standard_normal((ROWS, 1)),
        y=rng.standard_normal((ROWS, 1)),
        model=(Layer("linear", size=1),),
        loss=Loss("squared_error", reduction="mean"),
        optimizer=Optimizer("sgd", learning_rate=0.1),
        epochs=1,
        initial={"0.linear/w": np.full((1, 1), 0.5), "0.linear/b": np.full(1, 0.3)},
    )

    class Off(StepwiseTrainer):
        def gradients(self, state, batch):
            state, loss, grads = super().gradients(state, batch)
            return state, (loss * (1 + units * EPS["float32"])).astype(loss.dtype), grads

    found = diagnosed(Off, problem)
    assert found.verdict is verdict, found.sentence
    assert verdict is Verdict.AGREE or found.first.name == "loss"


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("ulps", "verdict"), [(1, Verdict.AGREE), (4, Verdict.DIFFER)])
def test_a_continued_step_may_be_off_by_one_unit_in_the_last_place(ulps, verdict, dtype):
    """The same program on the same numbers: compiled anew, it may round once more."""

    class Continues(StepwiseTrainer):
        fresh = False

        def write(self, state, snapshot):
            self.fresh = True
            return super().write(state, snapshot)

        def step(self, state, batch):
            state, loss = super().step(state, batch)
            if not self.fresh:
                return state, loss
            self.fresh = False
            return state._replace(parameters={n: self._off(v) for n, v in state.parameters.items()}), loss

        def _off(self, value):
            out = value.copy()
            place = np.abs(out).argmax()
            for _ in range(ulps):
                out.flat[place] = np.nextafter(out.flat[place], np.inf)
            return out

    found = diagnosed(Continues, square_problem(dtype=dtype, epochs=3))
    assert found.verdict is verdict, found.sentence
    if verdict is Verdict.DIFFER:
        assert (found.kind, found.first.kind) == (Kind.CARRIED, "continued")


def off_by_fit(change):
    """A backend each step of which is right; only the trace of its whole run is changed."""

    class Fused(StepwiseTrainer):
        def fit(self, *given):
            return change(super().fit(*given))

    return Fused


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("units", "verdict"), [(20, Verdict.AGREE), (150, Verdict.DIFFER)])
def test_a_whole_run_may_be_off_by_tens_of_units_of_rounding(units, verdict, dtype):
    def change(trace):
        ends = {name: larger(value, units) for name, value in trace.final.parameters.items()}
        return dataclasses.replace(trace, final=dataclasses.replace(trace.final, parameters=ends))

    found = diagnosed(off_by_fit(change), square_problem(dtype=dtype))
    assert found.verdict is verdict, found.sentence
    if verdict is Verdict.DIFFER:
        assert (found.kind, found.first.kind) == (Kind.CARRIED, "fit")


def grown(problem):
    """How far the last loss moves at most where the start is off by one eps."""
    losses = []
    for sign in (0.0, 1.0, -1.0):
        start = {name: value * (1 + sign * EPS["float64"]) for name, value in problem.initial.items()}
        trainer = NumPyBackend().trainer(problem.replace(initial=start))
        losses.append(trainer.fit(trainer.init(), problem.batches(), LOSSES_ONLY).losses)
    return max(float(np.abs(one - losses[0]).max()) for one in losses[1:])


@pytest.mark.parametrize(("share", "verdict"), [(15, Verdict.AGREE), (150, Verdict.DIFFER)])
def test_a_whole_run_may_be_off_by_what_rounding_grows_to(share, verdict):
    """The last loss of a chaotic run, moved by a multiple of what one eps at the start does to it; 45 are allowed."""
    problem = chaotic(20)
    distance = share * grown(problem)
    assert distance > 1e5 * EPS["float64"]  # far beyond what a run that does not grow may be off by

    def change(trace):
        losses = trace.losses.copy()
        losses[-1] += distance
        return dataclasses.replace(trace, losses=losses)

    found = diagnosed(off_by_fit(change), problem)
    assert found.verdict is verdict, found.sentence
    assert found.kind is (Kind.GROWTH if verdict is Verdict.AGREE else Kind.CARRIED)
