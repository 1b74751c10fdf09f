"""What is repeated, and by what it is judged: a problem on backends, or a user's own code on its batches."""

from __future__ import annotations

import dataclasses

from lockstep import backends as registry
from lockstep.backends.problem import Array, Batch, Problem
from lockstep.backends.protocol import Snapshot
from lockstep.harness.adopt.side import held
from lockstep.harness.adopt.task import Task
from lockstep.harness.bundle import Recorded, RecordedTask
from lockstep.harness.bundle.code import BATCH, FORWARD, ReplayedCode
from lockstep.harness.bundle.hashes import BATCHES, fingerprint_of, fingerprint_of_hashes, hashes_of
from lockstep.harness.bundle.replay_run import Inputs, Judges, Subject
from lockstep.harness.core.compare import Comparison, Expected, Run, compare_inputs, expected_of
from lockstep.harness.core.tolerance import FIXED, Judge, Tolerance
from lockstep.harness.core.verdict import Verdict
from lockstep.harness.numerics.budget import Notify, measure_by_inputs
from lockstep.harness.numerics.limits import of_stage
from lockstep.harness.runs.implementation import Implementation
from lockstep.harness.runs.lockstep_run import StageLimits
from lockstep.harness.verification.parity import judge_of


def of_problem(problem: Problem, given: Tolerance | None, notify: Notify) -> Subject:
    """A problem in its dtype, that any backend repeats.

    Args:
        problem: what is trained.
        given: a tolerance instead of the budget.
        notify: called with a sentence before a budget that will take long.
    """
    batches, expected = fingerprint_of(problem), expected_of(problem)

    def inputs(blank: Comparison, left: Run, right: Run) -> Comparison:
        return compare_inputs(blank, {**expected.inputs, BATCHES: batches}, left, right)

    def judge(steps: int) -> Judge:
        return judge_of(problem, given, notify, None if steps == problem.steps else steps)

    def limits(implementation: Implementation) -> StageLimits:
        # From the reference, which is not what is examined; from the backend itself where that cannot train the problem.
        reference = registry.load(registry.REFERENCE)
        one = reference if reference.supports(problem) is None else implementation
        return of_stage(problem, one.trainer(problem))

    return Subject(problem, batches, expected, inputs, (Judges(judge),), limits, given)


def of_task(recorded: RecordedTask, task: Task, code: ReplayedCode, given: Tolerance | None) -> Subject:
    """A user's own code on its batches; where the fixed tolerance fails, what rounding can do is measured on the code here.

    Args:
        recorded: what the bundle says.
        task: the batches here.
        code: who repeats it.
        given: the user's tolerance, or the fixed one where that was wanted.
    """
    start = code.side.canonical(held(code.side.start))
    expected = Expected(
        {},
        {name: code.side.shapes[name] for name in code.shared},
        {name: start[name] for name in code.parameters},
    )
    fixed = Judges(lambda steps: given or FIXED[task.dtype])
    measured = Judges(lambda steps: measure_by_inputs(task.until(steps), [code]))
    judges = (fixed,) if given else (fixed, measured)
    hashes = hashes_of(task)
    return Subject(
        task,
        fingerprint_of_hashes(hashes, task.dtype),
        expected,
        _inputs(recorded.first_other(hashes)),
        judges,
        lambda one: _under_recorded_names(of_stage(task, one.trainer(task)), code),
        given,
    )


def _inputs(first_other: int | None) -> Inputs:
    """Whether both started from the same and saw the same, to the bit; a buffer of one side alone is left out.

    Args:
        first_other: the first step whose batch is another one; None where all are the same.
    """

    def inputs(blank: Comparison, left: Run, right: Run) -> Comparison:
        names = left.given.keys() & right.given.keys() - {BATCHES}
        faults = [
            f"{name}: other values than were recorded"
            for name in sorted(names)
            if left.given[name] != right.given[name]
        ]
        if first_other is not None:
            faults.append(f"{BATCHES}: others than were recorded, first at step {first_other}")
        reduced = [run.backend for run in (left, right) if run.environment.get("reduced_precision")]
        if len(reduced) == 1:
            faults.append(f"{reduced[0]} rounds matrix products to less than {blank.dtype}")
        return dataclasses.replace(
            blank,
            unit="step",
            verdict=Verdict.DIFFER if faults else Verdict.AGREE,
            reason="; ".join(faults),
            elements=len(names) + 1,
            failing=len(faults),
            first_failing=None if first_other is None or len(faults) > 1 else (first_other,),
        )

    return inputs


def _under_recorded_names(measured: StageLimits, code: ReplayedCode) -> StageLimits:
    """Limits of the code's own modules, as limits of the recorded ones."""

    def limits(snapshot: Snapshot, batch: Batch) -> dict[str, float]:
        own = dict(measured(snapshot, batch))
        renamed = {FORWARD + there: own.get(FORWARD + here) for there, here in code.modules.pairs.items()}
        return {**own, **{name: limit for name, limit in renamed.items() if limit is not None}}

    return limits


def shared(recorded: Recorded, batches: Array, code: ReplayedCode) -> Recorded:
    """A recorded run of a user's own code, cut to what can be compared with that of `code`.

    Args:
        recorded: the run.
        batches: the hash of each step's batch: it is a stage, too.
        code: who repeats it.
    """
    trace = recorded.run.trace
    assert trace is not None
    ends = {name: value for name, value in held(trace.final).items() if name in code.shared}
    run = dataclasses.replace(
        recorded.run, trace=dataclasses.replace(trace, final=Snapshot(ends, step=trace.final.step))
    )
    stages = {step: {**some, BATCH: batches[step]} for step, some in recorded.stages.items()}
    return dataclasses.replace(recorded, run=run, stages=stages)
