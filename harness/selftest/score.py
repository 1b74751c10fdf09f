"""The score: which planted bugs are found and rightly named, and how many clean runs alarm."""

from __future__ import annotations

import math
import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np
import scipy.stats

from lockstep import backends
from lockstep.backends.errors import IllPosedError, UndecidedError
from lockstep.backends.problem import Optimizer, Problem
from lockstep.backends.protocol import Certifying
from lockstep.harness.core.verdict import Verdict
from lockstep.harness.diagnose.diagnosis import diagnose
from lockstep.harness.problems import find
from lockstep.harness.runs.intervention import Intervention
from lockstep.harness.runs.workers import Chosen
from lockstep.harness.selftest.clean import clean
from lockstep.harness.selftest.mutants import Mutant
from lockstep.harness.selftest.mutated import Mutated
from lockstep.harness.verification.parity import verify
from lockstep.harness.verification.result import Result

CHUNK = 25
"""Clean problems a process: some 20 MB each stay in it."""

CHOSEN_ON = range(1_000_000, 1_000_500)
"""Seeds of the clean runs on which the multiple was chosen; what is scored begins at 0 and ends before."""


@dataclass(frozen=True)
class Finding:
    """What became of one mutant on one problem.

    Attributes:
        mutant, problem, dtype, seed: which.
        found: whether `verify` or `diagnose` says DIFFER.
        stage: the kind of stage that `diagnose` names first, or empty.
        placed: whether that is one of the mutant's stages.
        explanation: what was confirmed, or empty.
        explained: whether that is the mutant's; None where the table has none for it.
        sentence: what `diagnose` said.
        used: the largest distance of the two runs as a share of its limit; what is missed is below 1.
    """

    mutant: str
    problem: str
    dtype: str
    seed: int
    found: bool
    stage: str
    placed: bool
    explanation: str
    explained: bool | None
    sentence: str
    used: float | None = None


@dataclass(frozen=True)
class CleanRun:
    """What a clean problem gave: AGREE, or an alarm.

    Attributes:
        problem, dtype, verdict, reason: as of its case.
        ill_posed: whether it could not be judged because it has no definite trajectory: the certified reference
            finds that numbers are equal whose order decides where it goes on.
        diverged: whether every backend trained, and to nothing finite.
    """

    problem: str
    dtype: str
    verdict: Verdict
    reason: str
    ill_posed: bool = False
    diverged: bool = False

    @property
    def alarms(self) -> bool:
        """Whether it says that right backends differ or fail; that all of them diverge is the problem's doing."""
        return self.verdict in (Verdict.DIFFER, Verdict.ERROR) and not self.diverged


@dataclass(frozen=True)
class Rate:
    """So many of so many, with the upper 95 % bound of the rate behind it (Clopper, Pearson, 1934)."""

    hits: int
    trials: int

    @property
    def upper(self) -> float:
        """The largest rate under which so few hits would still occur in one of twenty tries."""
        if self.hits >= self.trials:
            return 1.0
        return float(scipy.stats.beta.ppf(0.95, self.hits + 1, self.trials - self.hits))

    def __str__(self) -> str:
        share = self.hits / self.trials if self.trials else math.nan
        return f"{self.hits} of {self.trials} ({share:.1%}, at most {self.upper:.1%})"


def plant(mutant: Mutant, problem: str, seed: int, dtype: str = "float64") -> Finding:
    """Plant one mutant in the reference's training of one problem, and look for it."""
    reference = backends.load(backends.REFERENCE)
    prepared = find(problem).replace(dtype=dtype)

    def planted(asked: Problem) -> Intervention:
        return mutant.plant(asked, np.random.default_rng([seed, len(mutant.name)]))

    suspect = Mutated(reference, planted)
    result = verify(prepared, backends=[reference, suspect], dtypes=[dtype])
    diagnosis = diagnose(prepared, suspect, reference, others=[])
    found = Verdict.DIFFER in (result.verdict, diagnosis.verdict)
    first = diagnosis.first if diagnosis.verdict is Verdict.DIFFER else None
    stage = first.kind if first is not None else ""
    confirmed = diagnosis.explanation.name if diagnosis.explanation is not None else ""
    explained = None if mutant.explanation is None else confirmed == mutant.explanation.name
    return Finding(
        mutant.name,
        problem,
        dtype,
        seed,
        found,
        stage,
        stage in mutant.stages,
        confirmed,
        explained,
        diagnosis.sentence,
        max((one.used for one in result.comparisons if one.used is not None), default=None),
    )


def plant_all(mutants: Iterable[Mutant], seeds: Iterable[int], dtype: str = "float64") -> Iterator[Finding]:
    """Every mutant on every problem where it can show, with every seed."""
    seeds = list(seeds)
    for mutant in mutants:
        for problem in mutant.problems:
            for seed in seeds:
                yield plant(mutant, problem, seed, dtype)


def train_clean(
    seeds: Iterable[int], chosen: Sequence[Chosen] | None = None, draw: Callable[[int], Problem] = clean
) -> Iterator[CleanRun]:
    """Random clean problems on all backends."""
    for seed in seeds:
        problem = draw(seed)
        result = verify(problem, backends=chosen, dtypes=[problem.dtype])
        reason = "" if result.verdict is Verdict.AGREE else result.cases[0].reason
        ill_posed = result.verdict is Verdict.INCONCLUSIVE and _is_ill_posed(problem)
        yield CleanRun(problem.name, problem.dtype, result.verdict, reason, ill_posed, _diverged(result))


def _diverged(result: Result) -> bool:
    return all(run.trace is not None and not np.isfinite(run.trace.losses[-1]) for run in result.runs)


def train_clean_apart(seeds: Sequence[int], processes: int = 2) -> Iterator[CleanRun]:
    """`train_clean` on all backends in processes that are replaced after CHUNK problems: what XLA compiled stays in memory."""
    chunks = [seeds[start : start + CHUNK] for start in range(0, len(seeds), CHUNK)]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context, max_tasks_per_child=1) as pool:
        for chunk in pool.map(_trained, chunks):
            yield from chunk


def _trained(seeds: Sequence[int]) -> list[CleanRun]:
    return list(train_clean(seeds))


def _is_ill_posed(problem: Problem) -> bool:
    certified: Certifying = backends.load(backends.CERTIFIED)  # type: ignore[assignment]
    try:
        certified.enclosure(problem)
    except IllPosedError:
        return True
    except UndecidedError:  # nobody knows
        return False
    return False


def detection_curve(problem: str = "seed", dtype: str = "float64") -> dict[float, Verdict]:
    """The verdict on a relative change of the learning rate, from 1e-2 down to 1e-15."""
    reference = backends.load(backends.REFERENCE)
    found = {}
    for exponent in range(2, 16):
        change = 10.0**-exponent

        def faster(asked: Problem, change: float = change) -> Intervention:
            one = asked.optimizer
            args = {**one.args, "learning_rate": one.args["learning_rate"] * (1 + change)}
            return Intervention(spec=asked.replace(optimizer=Optimizer(one.name, **args)))

        result = verify(problem, backends=[reference, Mutated(reference, faster)], dtypes=[dtype])
        found[change] = result.verdict
    return found
