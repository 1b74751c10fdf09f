"""From the members of an archive to recorded runs: everything is checked, nothing is believed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import unquote

from lockstep.backends.problem import Array, Arrays, Problem
from lockstep.backends.protocol import Trace
from lockstep.harness.bundle import npy
from lockstep.harness.bundle.archive import BundleError
from lockstep.harness.bundle.arrays import nothing_left, some, take, taken
from lockstep.harness.bundle.content import (
    DOCUMENT,
    FORMAT,
    SCHEMA_VERSION,
    Bundle,
    Recorded,
    RecordedProblem,
    quoted,
    under,
)
from lockstep.harness.bundle.task import check_run, task_of
from lockstep.harness.core.compare import Fingerprint, Run
from lockstep.harness.documents.schema import load as schema
from lockstep.harness.documents.shortening import shortened
from lockstep.harness.documents.strict_json import parse
from lockstep.harness.problems.document import build, check, describe
from lockstep.harness.runs.stages import snapshot_of

FLOATS = ("float64", "float32", "float16")

LARGEST_DOCUMENT = 1 << 20
"""Bytes of JSON that are looked at: what a thousand problems and runs need."""

_COUNTS = re.compile(r"(runs/\d+/(final|stages/\d+(/state|/step)?)|task/start)/count\Z")
_OF_CODE = re.compile(
    r"runs/\d+/(stages/\d+/(state/|step/)?(optimizer|buffers|extra)|final/extra)/|task/start/extra/"
)
_HASHES = "task/batches"


def loaded(members: Mapping[str, bytes]) -> Bundle:
    """The bundle of these members.

    Raises:
        LockstepError: they are not those of one.
    """
    document = _document(members)
    left = _decoded(members, set(document[npy.BFLOAT16]))
    if any("task" in one for one in document["problems"]):
        return _of_task(document, left)
    problems = tuple(
        _recorded_problem(one, take(left, f"problems/{index}/"))
        for index, one in enumerate(document["problems"])
    )
    runs = _runs(document, [_trained(one) for one in problems], left)
    _check_distinct("problems", [one.document["name"] for one in problems])
    _check_distinct("runs", [f"{one.run.problem} {one.run.dtype} {one.run.backend}" for one in runs])
    return Bundle(document["environment"], problems, runs)


def _of_task(document: Mapping[str, Any], left: dict[str, Array]) -> Bundle:
    """One of a user's own code: one task and one run."""
    if len(document["problems"]) > 1 or len(document["runs"]) > 1:
        raise BundleError(
            "it holds more than one task and one run",
            f"{len(document['problems'])} and {len(document['runs'])}",
            "record each by itself",
        )
    task = task_of(document["problems"][0], take(left, "task/"))
    runs = _runs(document, [_Trained(task.name, task.steps)], left)
    check_run(task, runs[0])
    return Bundle(document["environment"], (), runs, task)


def _runs(
    document: Mapping[str, Any], trained: Sequence[_Trained], left: dict[str, Array]
) -> tuple[Recorded, ...]:
    """All runs; no array is left then."""
    runs = tuple(
        _recorded(one, trained, take(left, f"runs/{index}/")) for index, one in enumerate(document["runs"])
    )
    nothing_left(left)
    return runs


def _check_distinct(what: str, names: Sequence[str]) -> None:
    """In a report they could not be distinguished."""
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise BundleError(f"two {what} have one name", shortened(twice[0]), "record one of them")


def _document(members: Mapping[str, bytes]) -> dict[str, Any]:
    if DOCUMENT not in members:
        raise BundleError("it is not a bundle", f"no {DOCUMENT}", "name what `lockstep record` wrote")
    document = parse(members[DOCUMENT], LARGEST_DOCUMENT)
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise BundleError(
            "it is not a bundle", f"{DOCUMENT} of something else", "name what `lockstep record` wrote"
        )
    version = document.get("schema_version")
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise BundleError(
            "a newer Lockstep wrote it",
            f"format {version}, this one reads {SCHEMA_VERSION}",
            "install that one",
        )
    check(document, schema("bundle"))
    return document


def _decoded(members: Mapping[str, bytes], bfloat16: set[str]) -> dict[str, Array]:
    """Every array by its name."""
    arrays = {}
    for member, content in members.items():
        name = member.removesuffix(".npy")
        if member == DOCUMENT:
            continue
        if name == member:
            raise BundleError("it holds a member of another kind", repr(member), "record it again")
        array = npy.decode(name, content)
        if name in bfloat16:
            array = npy.as_bfloat16(array)
            bfloat16.remove(name)
        if quoted(unquote(name)) != name:
            raise BundleError("an array's name is written in two ways", repr(name), "record it again")
        _check_numbers(name, array)
        arrays[unquote(name)] = array
    if bfloat16:
        raise BundleError("an array of bfloat16 is missing", repr(min(bfloat16)), "record it again")
    return arrays


def _check_numbers(name: str, array: Array) -> None:
    """Counts are whole, all else is floating, but for hashes and what a user's own code keeps and counts."""
    if _OF_CODE.match(name):
        return
    floats = (*FLOATS, npy.BFLOAT16)
    wanted = ("int64",) if _COUNTS.match(name) else ("uint8",) if name == _HASHES else floats
    if array.dtype.name not in wanted:
        raise BundleError(
            f"{shortened(name)} is of another kind of number",
            str(array.dtype),
            f"it must be {' or '.join(wanted)}",
        )


def _recorded_problem(entry: Mapping[str, Any], arrays: dict[str, Array]) -> RecordedProblem:
    document = entry["document"]
    if not entry["data"]:
        nothing_left(arrays)
        return RecordedProblem(document, None)
    initial = take(arrays, "initial/")
    x, y = (taken(arrays, name) for name in ("x", "y"))
    nothing_left(arrays)
    return RecordedProblem(document, _problem(document, x, y, initial))


class _Trained(NamedTuple):
    """What a run is of, and how many steps it has; None where the bundle does not hold the data."""

    name: str
    steps: int | None


def _trained(one: RecordedProblem) -> _Trained:
    return _Trained(one.document["name"], None if one.problem is None else one.problem.steps)


def _problem(document: Mapping[str, Any], x: Array, y: Array, initial: Arrays) -> Problem:
    """Built, not checked against the schema: that takes a millisecond a layer, and a file may name many."""
    try:
        problem = build(document, x, y, initial)
        if describe(problem) == document:
            return problem
        got = "an argument is left out, or there is one too many"
    except (
        KeyError,
        TypeError,
        AttributeError,
        ValueError,
        ArithmeticError,
    ) as error:  # of other fields or types
        got = f"{type(error).__name__}: {error}"
    raise BundleError(
        f"it does not describe problem {shortened(document['name'])}", shortened(got), "record it again"
    )


def _recorded(entry: Mapping[str, Any], trained: Sequence[_Trained], arrays: dict[str, Array]) -> Recorded:
    if entry["problem"] >= len(trained):
        raise BundleError(
            "a run is of no problem", str(entry["problem"]), f"{len(trained)} problems are there"
        )
    about = trained[entry["problem"]]
    losses = taken(arrays, "losses")
    if losses.ndim != 1 or len(losses) != (about.steps or max(1, len(losses))):
        wanted = "one for each step" if about.steps is None else f"{about.steps} steps"
        raise BundleError("the losses are not those of the run", f"shape {losses.shape}", f"it has {wanted}")
    parameters, stages = (
        {step: some(arrays, f"{kind}/{step}/") for step in entry[f"{kind}_at"]}
        for kind in ("parameters", "stages")
    )
    if beyond := [one for one in parameters if one > len(losses)] + [
        one for one in stages if one >= len(losses)
    ]:
        raise BundleError("a step is beyond the run", str(beyond[0]), f"it has {len(losses)} steps")
    for one in stages.values():
        snapshot_of(under("state/", one))
    run = Run(
        about.name,
        entry["dtype"],
        entry["backend"],
        trace=Trace(losses, snapshot_of(take(arrays, "final/"))),
        given={
            name: Fingerprint(tuple(one["shape"]), one["dtype"], one["sha256"])
            for name, one in entry["given"].items()
        },
        environment=entry["environment"],
        evaluation=arrays.pop("evaluation", None),
    )
    nothing_left(arrays)
    return Recorded(entry["problem"], run, entry["stepwise"], parameters, stages)
