"""Comparison of two runs: their inputs, losses and final state. Pure: knows no framework and does no I/O."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from lockstep.backends.problem import UNAVERAGED, Array, Arrays, Problem
from lockstep.backends.protocol import Trace
from lockstep.harness.core.distance import Place, place, ratio
from lockstep.harness.core.spec import RunSpec
from lockstep.harness.core.tolerance import EXACT, Judge
from lockstep.harness.core.verdict import Verdict

LOSS = "loss"
INPUTS = "inputs"
EVALUATION = "evaluation"
AVERAGE = "average"
STATE = "optimizer"

PLACES = 10
"""Elements that a comparison names."""


@dataclass(frozen=True)
class Fingerprint:
    """Identifies an array to the bit."""

    shape: tuple[int, ...]
    dtype: str
    sha256: str

    @classmethod
    def of(cls, array: Array) -> Fingerprint:
        """The fingerprint of one array; its memory layout does not matter."""
        data = np.ascontiguousarray(array)
        return cls(array.shape, str(array.dtype), hashlib.sha256(data.data).hexdigest())


@dataclass(frozen=True)
class Run:
    """One backend's training of one problem in one dtype, or why there is none.

    Attributes:
        problem, dtype, backend: which run.
        verdict: AGREE stands for "trained"; else ERROR or SKIPPED, with `reason` and, if known, `fix`.
        trace: losses and final state; None unless it trained.
        given: fingerprints of the framework's inputs, read back from it.
        environment: versions, threads and precision, as the backend reports them.
        seconds: wall time of the training, compilation included.
        evaluation: the trained model's output for all of x in evaluation mode; None where it has but one mode.
    """

    problem: str
    dtype: str
    backend: str
    verdict: Verdict = Verdict.AGREE
    reason: str = ""
    fix: str = ""
    trace: Trace | None = None
    given: Mapping[str, Fingerprint] = field(default_factory=dict)
    environment: Mapping[str, str | int | bool] = field(default_factory=dict)
    seconds: float = 0.0
    evaluation: Array | None = None


@dataclass(frozen=True)
class Comparison:
    """One quantity of two runs, compared.

    Attributes:
        problem, dtype, left, right: which runs; left is the reference of relative figures.
        quantity: ``inputs``, ``loss``, a parameter's or buffer's canonical name, ``average/`` and a parameter's
            name, or ``evaluation``.
        unit: what an index counts: ``epoch`` or ``step`` for losses, ``index`` for parameters.
        verdict, reason: what was decided and why, the reason empty for AGREE.
        elements: how many numbers (for inputs: arrays) were compared.
        failing: how many of them failed.
        first_failing: the index of the first that failed.
        differing: how many are not the same number.
        lost: how many are not finite on either side.
        places: the elements furthest beyond (or nearest to) their limit, the worst first, PLACES of them.
        smallest_rtol: the smallest rtol, with atol as it is, under which all would have passed.
        smallest_atol: the smallest atol, with rtol as it is, likewise.
        tolerance: the judge of the comparison.
        used: the largest distance as a share of its limit; above 1 it fails.
        detectable: the largest limit, over its scale: any difference of more than that would have been caught.
    """

    problem: str
    dtype: str
    left: str
    right: str
    quantity: str
    verdict: Verdict
    unit: str = "index"
    reason: str = ""
    elements: int = 0
    failing: int = 0
    first_failing: tuple[int, ...] | None = None
    differing: int = 0
    lost: int = 0
    places: tuple[Place, ...] = ()
    smallest_rtol: float | None = None
    smallest_atol: float | None = None
    tolerance: Judge | None = None
    used: float | None = None
    detectable: float | None = None

    @property
    def worst(self) -> Place | None:
        """The first of the places."""
        return next(iter(self.places), None)


@dataclass(frozen=True)
class Expected:
    """The inputs that every run of a spec must start from, and the shapes that it must end with.

    Attributes:
        inputs: fingerprints of data and initial parameters, by name.
        shapes: of everything that is compared at the end, by quantity.
        start: the initial parameters, by name: a run that leaves all of them as they are shows nothing.
    """

    inputs: Mapping[str, Fingerprint]
    shapes: Mapping[str, tuple[int, ...]]
    start: Arrays


def expected_of(problem: Problem) -> Expected:
    """The inputs that every run of a problem must start from, and the shapes that it must end with."""
    return Expected(expected_inputs(problem), final_shapes(problem), problem.initial_parameters())


def compare_runs(
    spec: RunSpec, left: Run, right: Run, tolerance: Judge, expected: Expected
) -> list[Comparison]:
    """Everything of two trained runs: inputs first, then every step's loss, then the final state.

    Args:
        spec: the run that both were to train, in its dtype.
        left, right: two runs that trained.
        tolerance: the largest distances that count as equal.
        expected: `expected_of` a problem; for a user's own code the arrays that both sides have.
    """
    blank = Comparison(spec.name, spec.dtype, left.backend, right.backend, INPUTS, Verdict.AGREE)
    inputs = compare_inputs(blank, expected.inputs, left, right)
    return [inputs, *compare_results(spec, left, right, tolerance, expected)]


def compare_results(
    spec: RunSpec, left: Run, right: Run, tolerance: Judge, expected: Expected
) -> list[Comparison]:
    """The same without the inputs."""
    assert left.trace is not None
    assert right.trace is not None
    blank = Comparison(spec.name, spec.dtype, left.backend, right.backend, LOSS, Verdict.AGREE)
    blank = dataclasses.replace(blank, tolerance=tolerance)
    loss = compare_arrays(
        dataclasses.replace(blank, unit=_unit(spec)),
        left.trace.losses,
        right.trace.losses,
        (spec.steps,),
        spec.dtype,
    )
    ends = final(spec, left), final(spec, right)
    ended = compare_named(blank, expected.shapes, *ends)
    if not any(_moved(name, value, ends) for name, value in expected.start.items()):
        ended = [_unmoved(one) for one in ended]
    return [*without_vacuous([loss], {LOSS: left.trace.losses}), *ended]


def compare_counts(spec: RunSpec, left: Run, right: Run) -> list[Comparison]:
    """The integer and boolean buffers that both sides keep under one name and in one form: they count, and must be the same."""
    assert left.trace is not None
    assert right.trace is not None
    blank = Comparison(spec.name, spec.dtype, left.backend, right.backend, LOSS, Verdict.AGREE)
    ours, theirs = left.trace.final.counts, right.trace.final.counts
    return [
        compare_whole(dataclasses.replace(blank, quantity=name), value, theirs[name])
        for name, value in ours.items()
        if value.size and name in theirs
        if (theirs[name].shape, theirs[name].dtype) == (value.shape, value.dtype)
    ]


def _unit(spec: RunSpec) -> str:
    """The unit of an index into the losses."""
    return "epoch" if isinstance(spec, Problem) and spec.steps == spec.epochs else "step"


def _moved(name: str, start: Array, ends: tuple[Arrays, Arrays]) -> bool:
    return any(name in end and not np.array_equal(start, end[name]) for end in ends)


def _unmoved(one: Comparison) -> Comparison:
    """INCONCLUSIVE for a run that moves no parameter: equal results show only that both had the same inputs."""
    if one.verdict is not Verdict.AGREE:
        return one
    reason = "no step of either side moves any parameter: gradients and updates could not have differed"
    return dataclasses.replace(one, verdict=Verdict.INCONCLUSIVE, reason=reason)


def final_shapes(problem: Problem) -> dict[str, tuple[int, ...]]:
    """The shape of everything that a run of `problem` must end with, by quantity."""
    averages = {} if problem.average == UNAVERAGED else problem.parameter_shapes
    return {
        **problem.parameter_shapes,
        **{name: one.shape for name, one in problem.buffers.items()},
        **{f"{AVERAGE}/{name}": shape for name, shape in averages.items()},
        **({EVALUATION: problem.y.shape} if problem.has_modes else {}),
    }


def final(spec: RunSpec, run: Run) -> dict[str, Array]:
    """The final state of a run, by quantity: parameters, buffers, averages as they are reported, evaluation."""
    assert run.trace is not None
    last = run.trace.final
    averages: Arrays = {}
    if isinstance(spec, Problem):
        averages = spec.average.reported(last.average, spec.steps // spec.accumulation)
    return {
        **last.parameters,
        **last.buffers,
        **{f"{AVERAGE}/{name}": value for name, value in averages.items()},
        **({} if run.evaluation is None else {EVALUATION: run.evaluation}),
    }


def expected_inputs(problem: Problem) -> dict[str, Fingerprint]:
    """Fingerprints of the inputs that every trainer of `problem` must have."""
    batches = problem.batches()
    arrays = {
        "data/x": batches.x,
        "data/y": batches.y,
        **{f"initial/{name}": value for name, value in problem.initial_parameters().items()},
    }
    return {name: Fingerprint.of(array) for name, array in arrays.items()}


def compare_inputs(
    blank: Comparison, expected: Mapping[str, Fingerprint], left: Run, right: Run
) -> Comparison:
    """Whether both runs had the problem's own data, parameters and precision, to the bit."""
    faults = [
        f"{run.backend}: {name}: {_mismatch(expected.get(name), run.given.get(name))}"
        for run in (left, right)
        for name in sorted(expected.keys() | run.given.keys())
        if expected.get(name) != run.given.get(name)
    ]
    elements = len(expected)
    reduced = [run.backend for run in (left, right) if run.environment.get("reduced_precision")]
    if len(reduced) == 1 and blank.dtype == "float32":  # what TF32 and bfloat16 passes stand in for
        faults.append(f"{reduced[0]} rounds matrix products to less than {blank.dtype}, the other does not")
    return dataclasses.replace(
        blank,
        verdict=Verdict.DIFFER if faults else Verdict.AGREE,
        reason="; ".join(faults),
        elements=elements,
        failing=len(faults),
    )


def _mismatch(expected: Fingerprint | None, given: Fingerprint | None) -> str:
    if expected is None:
        return "given, but not part of the problem"
    if given is None:
        return "not given"
    for attribute in ("shape", "dtype"):
        wanted, got = getattr(expected, attribute), getattr(given, attribute)
        if wanted != got:
            return f"{attribute} {got}, the problem says {wanted}"
    return "other values than the problem's"


def _compare_final(
    shapes: Mapping[str, tuple[int, ...]], left: Arrays, right: Arrays, blank: Comparison
) -> Iterator[Comparison]:
    compared = []
    for name in sorted(shapes.keys() | left.keys() | right.keys()):
        one = dataclasses.replace(blank, quantity=name)
        if name not in shapes or name not in left or name not in right:
            yield _differ(one, _absence(name, shapes, left, right, one))
        else:
            compared.append(compare_arrays(one, left[name], right[name], shapes[name], blank.dtype))
    yield from without_vacuous(compared, left)


def _absence(name: str, shapes: Mapping[str, tuple[int, ...]], a: Arrays, b: Arrays, one: Comparison) -> str:
    if name not in shapes:
        return "no parameter or buffer of the problem"
    sides = [side for side, arrays in ((one.left, a), (one.right, b)) if name not in arrays]
    return f"missing from {' and '.join(sides)}"


def compare_arrays(
    blank: Comparison, left: Array, right: Array, shape: tuple[int, ...], dtype: str
) -> Comparison:
    """Two arrays: shape, then dtype, then finiteness, then value.

    Args:
        blank: names the runs and the quantity, and holds the tolerance.
        left, right: the arrays.
        shape, dtype: those that the problem prescribes.
    """
    for what, wanted, got in (
        ("shape", shape, (left.shape, right.shape)),
        ("dtype", dtype, (str(left.dtype), str(right.dtype))),
    ):
        if got != (wanted, wanted):
            return _differ(blank, f"{what} {got[0]} against {got[1]}, the problem says {wanted}")
    if left.size == 0:
        return dataclasses.replace(blank, verdict=Verdict.INCONCLUSIVE, reason="no elements to compare")
    return _compare_values(blank, left, right)


def compare_whole(blank: Comparison, left: Array, right: Array) -> Comparison:
    """Two arrays of whole numbers or truth values, exactly; how many bytes a number has does not matter."""
    exact = dataclasses.replace(blank, tolerance=EXACT)
    return compare_arrays(exact, left.astype(np.int64), right.astype(np.int64), left.shape, "int64")


def compare_named(
    blank: Comparison, shapes: Mapping[str, tuple[int, ...]], left: Arrays, right: Arrays
) -> list[Comparison]:
    """Arrays by name, such as the final parameters of two runs.

    Args:
        blank: names the runs, and holds the tolerance.
        shapes: those that the problem prescribes, by name.
        left, right: the arrays of the two runs.
    """
    return list(_compare_final(shapes, left, right, blank))


def _differ(blank: Comparison, reason: str) -> Comparison:
    return dataclasses.replace(blank, verdict=Verdict.DIFFER, reason=reason, failing=1)


def _compare_values(blank: Comparison, left: Array, right: Array) -> Comparison:
    """Two arrays of one shape and dtype, neither empty."""
    tolerance = blank.tolerance
    assert tolerance is not None
    finite = np.isfinite(left) & np.isfinite(right)
    both_lost = ~np.isfinite(left) & ~np.isfinite(right)
    a, b = (np.where(finite, side, 0).astype(np.float64) for side in (left, right))
    scale = tolerance.scale(a, blank.quantity == LOSS)
    with np.errstate(over="ignore"):  # the distance of opposite numbers near the dtype's end is infinite
        distance = np.where(finite, np.abs(a - b), np.inf)
    limit = tolerance.limit(blank.quantity, scale)
    failing = (distance > limit) | ~finite
    margin = np.where(both_lost & (failing & ~both_lost).any(), -1.0, ratio(distance, limit))
    verdict, reason = _decide(blank, failing, both_lost, finite)
    uninformative = tolerance.uninformative(blank.quantity, scale)
    if verdict is Verdict.AGREE and uninformative.any():
        verdict, reason = Verdict.INCONCLUSIVE, _uninformative_reason(blank, uninformative, limit)
    return dataclasses.replace(
        blank,
        verdict=verdict,
        reason=reason,
        elements=left.size,
        failing=int(failing.sum()),
        first_failing=_first(failing),
        differing=int((~((a == b) & finite)).sum()),
        lost=int((~finite).sum()),
        places=tuple(place(_index(margin, one), left, right, scale) for one in _largest(margin)),
        smallest_rtol=_at_least(ratio(np.maximum(distance - tolerance.atol, 0.0), scale)),
        smallest_atol=_at_least(np.maximum(distance - tolerance.rtol * scale, 0.0)),
        used=float(margin.max()),
        detectable=float(ratio(limit, scale).max()),
    )


def _decide(blank: Comparison, failing: Array, both_lost: Array, finite: Array) -> tuple[Verdict, str]:
    if not failing.any():
        return Verdict.AGREE, ""
    where = blank.unit
    one_lost = ~finite & ~both_lost
    if one_lost.any():
        return Verdict.DIFFER, f"one side is not finite from {where} {_show(_first(one_lost))}"
    if (failing & finite).any():
        return Verdict.DIFFER, f"beyond tolerance first at {where} {_show(_first(failing & finite))}"
    return Verdict.ERROR, f"both sides diverged: not finite from {where} {_show(_first(both_lost))}"


def _uninformative_reason(blank: Comparison, uninformative: Array, limit: Array) -> str:
    grows = _growth(limit, int(uninformative.argmax())) if blank.quantity == LOSS else None
    rate = f"; it grows {grows:.2g} times {_A[blank.unit]}" if grows else ""
    return (
        f"rounding alone is so large from {blank.unit} {_show(_first(uninformative))} on "
        f"({uninformative.mean():.0%} of the values) that nothing could be caught{rate}"
    )


_A = {"epoch": "an epoch", "step": "a step"}


def _growth(limit: Array, until: int) -> float | None:
    """The average factor by which a limit grows from step to step until then; None where it has not grown."""
    known = np.flatnonzero((limit[: until + 1] > 0) & np.isfinite(limit[: until + 1]))
    if known.size < 2:
        return None
    first, last = int(known[0]), int(known[-1])
    factor = float((limit[last] / limit[first]) ** (1 / (last - first)))
    return factor if factor > 1 else None


def _largest(margin: Array) -> list[int]:
    """The positions of the PLACES largest, in order; of equals, the first come first."""
    flat = margin.ravel()
    if flat.size > PLACES:
        least = np.partition(flat, -PLACES)[-PLACES]
        above, level = np.flatnonzero(flat > least), np.flatnonzero(flat == least)
        indices = np.concatenate([above, level[: PLACES - above.size]])
    else:
        indices = np.arange(flat.size)
    return [int(one) for one in indices[np.argsort(-flat[indices], kind="stable")]]


def _first(mask: Array) -> tuple[int, ...] | None:
    return _index(mask, int(mask.argmax())) if mask.any() else None


def _index(array: Array, position: int) -> tuple[int, ...]:
    return tuple(map(int, np.unravel_index(position, array.shape)))


def _show(index: tuple[int, ...] | None) -> str:
    return ", ".join(map(str, index or ()))


def _at_least(bounds: Array) -> float:
    """The largest of `bounds`, raised by two roundings, so that a tolerance of that size does pass."""
    largest = float(bounds.max())
    return float(np.nextafter(np.nextafter(largest, np.inf), np.inf)) if largest else 0.0


def without_vacuous(comparisons: Sequence[Comparison], lefts: Arrays) -> list[Comparison]:
    """The comparisons, INCONCLUSIVE where the tolerance would have let zeros pass for all of their values."""
    if not any(_could_fail(one, lefts[one.quantity]) for one in comparisons):
        reason = "the tolerance is so wide that zeros would have passed"
        return [
            dataclasses.replace(one, verdict=Verdict.INCONCLUSIVE, reason=reason)
            if one.verdict is Verdict.AGREE
            else one
            for one in comparisons
        ]
    return list(comparisons)


def _could_fail(one: Comparison, left: Array) -> bool:
    """Whether zeros in place of these values would have failed; of zeros, whether anything else would."""
    if one.tolerance is None or one.verdict is not Verdict.AGREE:
        return True
    limit = one.tolerance.limit(one.quantity, one.tolerance.scale(left, one.quantity == LOSS))
    magnitude = np.abs(left.astype(np.float64))
    return bool((magnitude > limit).any()) or not magnitude.any()
