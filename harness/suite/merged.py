"""The results of many tests as one: recorded on disk by whichever process computed them, merged in a fixed order."""

from __future__ import annotations

import dataclasses
import itertools
import pickle
from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lockstep.harness.environment.manifest import manifest
from lockstep.harness.publish.folder import (
    write_report,
)
from lockstep.harness.report.document import to_document
from lockstep.harness.verification.result import Case, Result


@dataclass(frozen=True)
class Recorded:
    """One result, and where it comes from.

    Attributes:
        owner: the id of the test that computed it, or of the module or session whose tests share it.
        worker: the process.
        number: how many that process had recorded before.
        result: the result itself.
    """

    owner: str
    worker: str
    number: int
    result: Result

    def write(self, folder: Path) -> None:
        """Write it to a folder; a process that dies meanwhile leaves nothing that `read` would take for a result."""
        path = folder / f"{self.worker}-{self.number}.part"
        path.write_bytes(pickle.dumps(self))
        path.rename(path.with_suffix(".result"))


def read(folder: Path) -> Iterator[Recorded]:
    """The results that our own processes recorded in our own folder (pickle runs what it reads)."""
    for path in folder.glob("*.result"):
        recorded: Recorded = pickle.loads(path.read_bytes())
        yield recorded


def merged(recorded: Iterable[Recorded]) -> Result:
    """All cases in one result, each once, under a name of its own.

    They are sorted by owner, problem and dtype, so that neither the order of the tests nor their processes shows. Where
    several cases are of one problem in one dtype, the owner's id follows the problem's name, and a number where
    the owner verified it more than once; the dtypes of one result keep one name.
    """
    unique = list(_once(sorted(recorded, key=_order)))
    times = Counter(_key(case) for _, cases in unique for case in cases)
    shared = {name for (name, _), count in times.items() if count > 1}
    taken = {key for key in times if key[0] not in shared}
    return Result(tuple(case for owner, cases in unique for case in _distinct(cases, owner, shared, taken)))


def write(folder: Path, recorded: Path, command: str) -> list[Path]:
    """Write one report of all results in the folder `recorded`; return the paths written.

    Raises:
        FileError: a file cannot be written.
    """
    return write_report(folder, to_document(merged(read(recorded)), manifest(), command))


def _order(one: Recorded) -> tuple[object, ...]:
    return one.owner, [_key(case) for case in one.result.cases], one.worker, one.number


def _key(case: Case) -> tuple[str, str]:
    return case.problem.name, case.problem.dtype


def _once(recorded: Iterable[Recorded]) -> Iterator[tuple[str, list[Case]]]:
    """Owners and cases, without those that a second process also computed because its tests share the fixture."""
    first: dict[Hashable, str] = {}
    for one in recorded:
        cases = one.result.cases
        yield (
            one.owner,
            [
                case
                for case in cases
                if first.setdefault((one.owner, _outcome(case)), one.worker) == one.worker
            ],
        )


def _outcome(case: Case) -> Hashable:
    """The outcome of a case, to the bit, without its duration."""
    losses = ((run.backend, run.verdict, run.trace and run.trace.losses.tobytes()) for run in case.runs)
    return *_key(case), case.verdict, case.tolerance.source, tuple(losses)


def _distinct(
    cases: Sequence[Case], owner: str, shared: Collection[str], taken: set[tuple[str, str]]
) -> Iterator[Case]:
    """The cases of one result; a shared name is replaced by the first free one that holds the owner's id."""
    names: dict[str, str] = {}
    for case in cases:
        name = case.problem.name
        if name in shared and name not in names:
            dtypes = [one.problem.dtype for one in cases if one.problem.name == name]
            names[name] = _free(f"{name} [{owner}]", dtypes, taken)
            taken |= {(names[name], dtype) for dtype in dtypes}
        yield _renamed(case, names[name]) if name in names else case


def _free(name: str, dtypes: Collection[str], taken: Collection[tuple[str, str]]) -> str:
    numbered = (f"{name} #{number}" for number in itertools.count(2))
    return next(
        one for one in itertools.chain([name], numbered) if not any((one, dtype) in taken for dtype in dtypes)
    )


def _renamed(case: Case, name: str) -> Case:
    problem = case.problem.replace(name=name)
    return dataclasses.replace(
        case,
        problem=problem,
        runs=tuple(dataclasses.replace(run, problem=name) for run in case.runs),
        comparisons=tuple(dataclasses.replace(one, problem=name) for one in case.comparisons),
        diagnoses=tuple(dataclasses.replace(one, problem=problem) for one in case.diagnoses),
    )
